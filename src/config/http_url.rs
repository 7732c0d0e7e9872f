//! A URL whose `Date` header is requested: `http://HOST[:PORT][/PATH]`.

use std::fmt;

use hyper::Uri;

use super::pool::PoolName;
use drift_core::http_date::coarse::HttpSource;

const HTTP_PORT: u16 = 80;

/// What is expected instead of an invalid URL.
const EXPECTED: &str = "http://HOST, with :PORT if not 80 and a path if needed, e.g. http://www.example.com";
const NOT_HTTPS: &str = "http://, not https://: with a wrong clock no certificate is valid; a plain HTTP answer has a Date header too, even a redirect";

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    text: String,
    host: String,
    target: PoolName,
    path: String,
}

impl HttpUrl {
    /// Parses a URL. The error says what is expected instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // RFC 3986 allows none of these characters, and a quotation mark would end the value where it is
        // printed.
        let is_allowed = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
        let uri: Uri =
            Some(text).filter(|t| t.bytes().all(is_allowed)).and_then(|t| t.parse().ok()).ok_or(EXPECTED)?;
        match uri.scheme_str() {
            Some("https") => return Err(NOT_HTTPS),
            Some("http") => {}
            _ => return Err(EXPECTED),
        }
        // User information is rejected: a password would be logged.
        let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or(EXPECTED)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => HTTP_PORT,
            _ => authority.port_u16().ok_or(EXPECTED)?,
        };
        let target = PoolName::parse(&format!("{}:{port}", authority.host())).ok_or(EXPECTED)?;
        let host = if port == HTTP_PORT { authority.host().to_owned() } else { target.to_string() };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = format!("{}{path}", if path.starts_with('/') { "" } else { "/" });
        Ok(Self { text: text.to_owned(), host, target, path })
    }

    /// The host, with the port if it is not 80: for the header `Host`, and the name in all output.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The same for the core.
    pub fn source(&self) -> HttpSource {
        HttpSource { url: self.text.clone(), host: self.host.clone() }
    }

    /// The host to resolve, with the port.
    pub fn target(&self) -> &PoolName {
        &self.target
    }

    /// Whether both name the same host, port and path.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.target.is_same_as(&other.target) && self.path == other.path
    }

    /// The target of the request.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_with_port_path_and_ipv6_are_parsed() {
        let read = |text: &str| {
            let url = HttpUrl::parse(text).unwrap();
            (url.host, url.target.to_string(), url.path)
        };
        let of = |host: &str, target: &str, path: &str| (host.to_owned(), target.to_owned(), path.to_owned());
        assert_eq!(read("http://www.example.com"), of("www.example.com", "www.example.com:80", "/"));
        assert_eq!(read("http://10.0.0.1:8080/a?b=c"), of("10.0.0.1:8080", "10.0.0.1:8080", "/a?b=c"));
        assert_eq!(read("HTTP://[::1]/x#part"), of("[::1]", "[::1]:80", "/x"));
        assert_eq!(read("http://a.example?b").2, "/?b");
        assert_eq!(read("http://a.example:80"), of("a.example", "a.example:80", "/"));
    }

    #[test]
    fn invalid_urls_are_rejected_and_https_with_a_reason() {
        for invalid in [
            "",
            "www.example.com",
            "www.example.com:80",
            "/path",
            "http://",
            "http:///path",
            "ftp://a.example",
            "http://user:secret@a.example/",
            "http://a.example:0",
            "http://a.example:99999",
            "http://a.example:",
            "http://a b/",
            "http://10.0.0.256/",
            "http://a.example/\r\nX: y",
            "http://a.example/\"x",
            "http://a.example/\\x",
            "http://b\u{fc}cher.example/",
        ] {
            assert_eq!(HttpUrl::parse(invalid), Err(EXPECTED), "{invalid:?}");
        }
        assert_eq!(HttpUrl::parse("https://www.example.com"), Err(NOT_HTTPS));
        assert!(NOT_HTTPS.contains("certificate"));
    }

    proptest! {
        #[test]
        fn parse_never_panics_for_any_text(text in "(http://)?.{0,300}") {
            let _ = HttpUrl::parse(&text);
        }

        #[test]
        fn parsed_paths_are_valid_request_targets(path in "[!-~]{0,40}") {
            if let Ok(url) = HttpUrl::parse(&format!("http://a.example{path}")) {
                prop_assert!(url.path().starts_with('/'), "{}", url.path());
                prop_assert!(url.path().parse::<Uri>().is_ok(), "{}", url.path());
            }
        }
    }
}
