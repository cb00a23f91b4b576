//! Limits that several parts of this module share.

use std::time::Duration;

/// The largest body that is read: 64 KiB, far more than any documented response.
pub(crate) const MAX_BODY: u64 = 64 * 1024;
pub(super) const MAX_HEADERS: usize = 64 * 1024;
/// ureq's default is 128 KiB, and filling that with zeros is half of the work of an update. One byte more than the
/// largest head of a response, or ureq would report a larger head as a lost connection.
pub(super) const INPUT_BUFFER: usize = MAX_HEADERS + 1;
/// Enough for the largest head of a request: 8 KiB of base URL, 16 KiB of token, 1 KiB of user agent, and the rest.
pub(super) const OUTPUT_BUFFER: usize = 32 * 1024;
/// A year: the longest timeout, and the longest deadline. Added to the current time, it must not overflow.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(31_536_000);
