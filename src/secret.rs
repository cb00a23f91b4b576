//! A text that is never shown.

use std::fmt;

/// A client secret, a token, a key: `Debug` hides it, and there is no `Display`.
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

/// For `Debug`: whether there is a value, but not what it is.
pub(crate) fn hidden(value: &Option<String>) -> Option<&'static str> {
    value.as_ref().map(|_| "[hidden]")
}

/// Whether a text fits into a header as one word.
pub(crate) fn is_visible_ascii(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_that_there_is_one_and_no_more() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[hidden]");
    }

    #[test]
    fn a_header_takes_visible_ascii_alone() {
        for (text, fits) in [
            ("aZ09-._~+/=", true),
            ("", false),
            ("a b", false),
            ("a\n", false),
            ("é", false),
        ] {
            assert_eq!(is_visible_ascii(text), fits, "{text:?}");
        }
    }
}
