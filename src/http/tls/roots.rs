//! Which TLS library is used, and which root certificates it trusts.

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

const DER: &str = "is DER: convert it with `openssl x509 -inform DER -in FILE -out ca.pem`";
const PKCS7: &str = "contains PKCS #7: convert it with `openssl pkcs7 -print_certs -in FILE -out ca.pem`";
const PKCS7_DER: &str = "is PKCS #7: convert it with `openssl pkcs7 -inform DER -print_certs -in FILE -out ca.pem`";
/// This command converts all certificates of a file. `openssl x509` would convert only the first.
const OTHER_CERTIFICATE: &str = "contains a TRUSTED CERTIFICATE or X509 CERTIFICATE: convert it with `openssl crl2pkcs7 \
                                 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out ca.pem`";

/// Returns the configuration of TLS with these root certificates, or with the default ones.
///
/// # Errors
/// What is wrong with the certificates.
pub(super) fn config(pem: Option<&[u8]>) -> Result<TlsConfig, &'static str> {
    let (provider, roots) = if cfg!(feature = "platform-verifier") {
        (TlsProvider::Rustls, RootCerts::PlatformVerifier)
    } else if cfg!(any(feature = "rustls", feature = "rustls-no-provider")) {
        (TlsProvider::Rustls, RootCerts::WebPki)
    } else {
        (TlsProvider::NativeTls, RootCerts::PlatformVerifier)
    };
    let roots = pem.map_or(Ok(roots), |pem| certificates(pem).map(RootCerts::from))?;
    let tls = TlsConfig::builder().provider(provider).root_certs(roots);
    // Without a provider, ureq would panic. This compiles only if ureq and this crate use the same version of rustls.
    #[cfg(all(feature = "rustls-no-provider", not(feature = "rustls")))]
    let tls = match rustls::crypto::CryptoProvider::get_default() {
        Some(provider) => tls.unversioned_rustls_crypto_provider(provider.clone()),
        None => tls,
    };
    Ok(tls.build())
}

/// Returns the certificates of a PEM file. Skips keys, parameters and revocation lists, but no certificate. ureq and
/// the TLS libraries would silently drop certificates that they cannot read.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, &'static str> {
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
    match element(pem) {
        Some((SEQUENCE, [SEQUENCE, ..], _)) => return Err(DER),
        Some((SEQUENCE, [OBJECT_IDENTIFIER, ..], _)) => return Err(PKCS7_DER),
        _ => {}
    }
    let text = String::from_utf8_lossy(pem);
    // Either line of a certificate may be damaged.
    let (mut begins, ends) = (0, text.matches("-END CERTIFICATE-").count());
    for section in text.split("-BEGIN ").skip(1) {
        match section.split('-').next().unwrap_or_default() {
            "CERTIFICATE" => begins += 1,
            "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => return Err(OTHER_CERTIFICATE),
            "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => return Err(PKCS7),
            _ => {}
        }
    }
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| "not PEM")? {
            certificates.push(certificate);
        }
    }
    let is_whole = |certificate: &Certificate<'_>| is_certificate(certificate.der()) == Some(true);
    match ends.max(begins) {
        0 => Err("contains no certificate"),
        expected if certificates.len() == expected && certificates.iter().all(is_whole) => Ok(certificates),
        _ => Err("one of its certificates is invalid or damaged"),
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Returns whether this is exactly one certificate. Checks the types of its fields (RFC 5280 §4.1).
fn is_certificate(der: &[u8]) -> Option<bool> {
    let (tag, content, rest) = element(der)?;
    let fields = tags(element(content)?.1)?;
    let fields = fields.strip_prefix(&[VERSION]).unwrap_or(&fields);
    Some(
        (tag, rest) == (SEQUENCE, &[])
            && tags(content)? == [SEQUENCE, SEQUENCE, BIT_STRING]
            // The serial number; the algorithm, the issuer, the validity, the subject and its key.
            && fields.starts_with(&[INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]),
    )
}

/// Returns the tags of a sequence of elements.
fn tags(mut der: &[u8]) -> Option<Vec<u8>> {
    let mut tags = Vec::new();
    while !der.is_empty() {
        let (tag, _, rest) = element(der)?;
        tags.push(tag);
        der = rest;
    }
    Some(tags)
}

/// Splits DER into the tag and the content of its first element, and the rest (X.690 §8.1, §10.1).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_may_have_a_length_of_three_bytes() {
        let with = |head: &[u8], length: usize| [head, &vec![0; length]].concat();
        for (head, length) in [
            (&[0x30, 0][..], 0),
            (&[0x30, 0x7f], 0x7f),
            (&[0x30, 0x81, 0x80], 0x80),
            (&[0x30, 0x82, 1, 2], 0x102),
            (&[0x30, 0x83, 1, 0, 2], 0x1_0002),
        ] {
            let (tag, content, rest) = element(&with(head, length + 1))
                .map(|(t, c, r)| (t, c.len(), r.len()))
                .unwrap();
            assert_eq!((tag, content, rest), (0x30, length, 1), "{head:x?}");
            assert!(length == 0 || element(&with(head, length - 1)).is_none(), "{head:x?}");
        }
        for junk in [
            &b""[..],
            b"0",
            b"\x30",
            b"\x30\x80",
            b"\x30\x82\x01",
            b"\x30\x84\0\0\0\0",
            b"junk",
        ] {
            assert!(element(junk).is_none(), "{junk:x?}");
        }
    }

    #[test]
    fn a_damaged_certificate_is_detected() {
        let key = rcgen::KeyPair::generate().unwrap();
        let whole = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let whole = whole.der().to_vec();
        assert_eq!(is_certificate(&whole), Some(true));
        // The positions of the tags of all fields.
        let (_, content, _) = element(&whole).unwrap();
        let (_, mut rest, _) = element(content).unwrap();
        let mut places = vec![0, whole.len() - content.len()];
        while !rest.is_empty() {
            places.push(rest.as_ptr() as usize - whole.as_ptr() as usize);
            rest = element(rest).unwrap().2;
        }
        for place in places {
            for length in [place, place + 1] {
                assert_ne!(is_certificate(&whole[..length]), Some(true), "{length}");
            }
            let mut damaged = whole.clone();
            damaged[place] ^= 0x41;
            let is_extension = whole[place] == 0xa3;
            assert_eq!(is_certificate(&damaged) == Some(true), is_extension, "{place}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_ne!(is_certificate(&longer), Some(true));
    }
}
