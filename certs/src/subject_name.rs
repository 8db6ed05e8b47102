//! What a certificate is valid for.

use rustls_pki_types::DnsName;
use std::{fmt, net::IpAddr, str::FromStr};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A host name or an IP address that a certificate is valid for. Parse it from its text; names are kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectName(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Dns(String),
    Ip(IpAddr),
}

/// The text is neither a host name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host name in ASCII nor an ip address")]
pub struct BadSubjectName(String);

impl SubjectName {
    /// The names that every development identity has: `localhost`, `127.0.0.1`, `::1`.
    pub fn of_this_machine() -> [Self; 3] {
        [
            Self(Kind::Dns("localhost".to_owned())),
            Self(Kind::Ip(std::net::Ipv4Addr::LOCALHOST.into())),
            Self(Kind::Ip(std::net::Ipv6Addr::LOCALHOST.into())),
        ]
    }

    /// The address, where it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::Ip(address) => Some(address),
            Kind::Dns(_) => None,
        }
    }

    /// The names of a certificate in DER. A name of another sort (a wildcard, an address of mail) is left out.
    pub(crate) fn all_of(certificate: &[u8]) -> Vec<Self> {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Vec::new();
        };
        let Ok(Some(extension)) = parsed.subject_alternative_name() else {
            return Vec::new();
        };
        extension.value.general_names.iter().filter_map(Self::from_general_name).collect()
    }

    fn from_general_name(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => name.parse().ok(),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| Self(Kind::Ip(b.into()))),
                16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| Self(Kind::Ip(b.into()))),
                _ => None,
            },
            _ => None,
        }
    }
}

impl FromStr for SubjectName {
    type Err = BadSubjectName;

    fn from_str(text: &str) -> Result<Self, BadSubjectName> {
        if let Ok(address) = text.parse() {
            return Ok(Self(Kind::Ip(address)));
        }
        // A certificate names a host without the root's dot. [RFC 5280 §4.2.1.6]
        let host = text.strip_suffix('.').unwrap_or(text);
        match DnsName::try_from(host) {
            Ok(name) => Ok(Self(Kind::Dns(name.as_ref().to_ascii_lowercase()))),
            Err(_) => Err(BadSubjectName(text.to_owned())),
        }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Dns(name) => f.write_str(name),
            Kind::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (text, shown, is_ip) in
            [("Devbox.LAN.", "devbox.lan", false), ("192.168.1.7", "192.168.1.7", true), ("fe80:0::1", "fe80::1", true)]
        {
            let name: SubjectName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.ip().is_some()), (shown, is_ip));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "a b", "http://x", "x:1", "bücher.example", "x\n", &"a".repeat(300)] {
            assert!(text.parse::<SubjectName>().is_err(), "{text:?}");
        }
    }
}
