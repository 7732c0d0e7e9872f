//! A URL whose `Date` header is asked for: `http://HOST[:PORT][/PATH]`.

use std::fmt;

use hyper::Uri;

use super::pool::PoolName;
use drift_core::http_date::coarse::HttpSource;

const HTTP_PORT: u16 = 80;

/// What is wrong with a URL, and what would be right.
const EXPECTED: &str =
    "http://HOST, with :PORT if not 80 and a path if need be, such as http://www.example.com";
const NOT_HTTPS: &str = "http://, not https://: with a wrong clock no certificate is valid, and the answer over plain HTTP has a Date too, even a redirect";

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    text: String,
    host: String,
    target: PoolName,
    path: String,
}

impl HttpUrl {
    /// Reads it; if it is none, what would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // What RFC 3986 has no place for; a quotation mark would end the value where it is printed.
        let is_right = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
        let uri: Uri =
            Some(text).filter(|t| t.bytes().all(is_right)).and_then(|t| t.parse().ok()).ok_or(EXPECTED)?;
        match uri.scheme_str() {
            Some("https") => return Err(NOT_HTTPS),
            Some("http") => {}
            _ => return Err(EXPECTED),
        }
        // A password in it would end up in the log.
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

    /// The host, with the port when it is not 80: the header `Host`, and the name in every output.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the core calls it.
    pub fn source(&self) -> HttpSource {
        HttpSource { url: self.text.clone(), host: self.host.clone() }
    }

    /// What to resolve, and the port.
    pub fn target(&self) -> &PoolName {
        &self.target
    }

    /// Do both mean the same?
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.target.is_same_as(&other.target) && self.path == other.path
    }

    /// What to ask for.
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
    fn every_way_to_write_it_is_read() {
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
    fn what_is_no_such_url_is_refused_and_https_with_its_reason() {
        for wrong in [
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
            assert_eq!(HttpUrl::parse(wrong), Err(EXPECTED), "{wrong:?}");
        }
        assert_eq!(HttpUrl::parse("https://www.example.com"), Err(NOT_HTTPS));
        assert!(NOT_HTTPS.contains("certificate"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(http://)?.{0,300}") {
            let _ = HttpUrl::parse(&text);
        }

        #[test]
        fn the_path_is_one_that_a_request_can_have(path in "[!-~]{0,40}") {
            if let Ok(url) = HttpUrl::parse(&format!("http://a.example{path}")) {
                prop_assert!(url.path().starts_with('/'), "{}", url.path());
                prop_assert!(url.path().parse::<Uri>().is_ok(), "{}", url.path());
            }
        }
    }
}
