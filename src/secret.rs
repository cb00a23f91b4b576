//! Secrets, which are never shown.

use std::fmt;

/// A client secret, an access token or an API key. `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Box<str>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Hides a value in `Debug`, but shows whether there is one.
pub(crate) fn hidden(value: &Option<String>) -> Option<&'static str> {
    value.as_ref().map(|_| "[hidden]")
}

/// Returns whether a header may contain this text as one word.
pub(crate) fn is_visible_ascii(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[hidden]");
    }

    #[test]
    fn a_header_may_contain_only_visible_ascii() {
        for (text, allowed) in [
            ("aZ09-._~+/=", true),
            ("", false),
            ("a b", false),
            ("a\n", false),
            ("é", false),
        ] {
            assert_eq!(is_visible_ascii(text), allowed, "{text:?}");
        }
    }
}
