//! Base URLs in their normal form, and the URLs of requests under them.

use proptest::prelude::*;

use super::*;

fn base(text: &str) -> BaseUrl {
    BaseUrl::parse(text).unwrap()
}

#[test]
fn stores_one_normal_form() {
    for (typed, normal) in [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        (" HTTPS://API.Example.COM:443/v1/ ", "https://api.example.com/v1"),
        ("https://api.example.com.", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com//", "https://api.example.com"),
        ("https://api.example.com?", "https://api.example.com"),
        ("https://api.example.com/?v=1", "https://api.example.com?v=1"),
        ("https://api.example.com/a/../b/./c//", "https://api.example.com/b/c"),
        (
            "https://api.example.com:8443/V1?Api-Version=2024",
            "https://api.example.com:8443/V1?Api-Version=2024",
        ),
        ("http://api.example.com:80", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://b%C3%BCcher.example", "https://xn--bcher-kva.example"),
        ("https://ap%69.example.com", "https://api.example.com"),
        ("https://[2001:DB8:0:0::1]/v1", "https://[2001:db8::1]/v1"),
        ("http://my_service.local:8000", "http://my_service.local:8000"),
    ] {
        assert_eq!(base(typed).as_str(), normal, "{typed}");
        assert_eq!(base(normal).as_str(), normal, "{normal}");
    }
}

#[test]
fn refuses_what_is_not_a_base_url() {
    use BaseUrlError as E;
    for (text, error) in [
        ("", E::Scheme),
        ("api.example.com/v1", E::Scheme),
        ("https:api.example.com", E::Scheme),
        ("ftp://api.example.com", E::Scheme),
        ("file:///etc/passwd", E::Scheme),
        ("https://user@api.example.com", E::UserInfo),
        ("https://user:pass@api.example.com", E::UserInfo),
        ("https://@api.example.com", E::UserInfo),
        ("https://:@api.example.com", E::UserInfo),
        ("https://api.example.com#x", E::Fragment),
        ("https://api.example.com/v1#", E::Fragment),
        ("https://a..example.com", E::Host),
        ("https://.example.com", E::Host),
        ("https://api.example.com..", E::Host),
        ("https://a!b.example.com", E::Host),
        ("https://a{b}.example.com", E::Host),
        ("https://api.example.com:0", E::Port),
    ] {
        assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
    }
    for text in [
        "https://",
        "https:///v1",
        "https://?x=1",
        "https://api.example.com:65536",
        "https://api.example.com:x",
        "https://api.exa mple.com",
        "https://api.example.com\t/v1",
        "https://api.exam\nple.com",
        "https:\\\\api.example.com",
        "https://api.example.com\\@evil.example",
        "https://1.2.3.256",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://api%2Fexample.com",
    ] {
        assert!(
            matches!(BaseUrl::parse(text), Err(E::Malformed(_) | E::Scheme)),
            "{text:?} gave {:?}",
            BaseUrl::parse(text)
        );
    }
    let long = format!("https://api.example.com/{}", "a".repeat(MAX_LENGTH));
    assert_eq!(BaseUrl::parse(&long), Err(E::TooLong));
}

#[actix_web::test]
async fn sees_through_every_notation_of_an_address() {
    let nobody = EgressRules::default();
    let loopback = EgressRules::new(vec!["127.0.0.0/8".parse().unwrap()]);
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "017700000001",
        "0177.0.0.01",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
    ] {
        for scheme in ["http", "https"] {
            let url = base(&format!("{scheme}://{host}:8080/v1"));
            let refusal = url.check_egress(&nobody).await.unwrap_err();
            assert_eq!(refusal.rule(), "loopback", "{url:?}");
            assert_eq!(url.check_egress(&loopback).await, Ok(()), "{url:?}");
        }
    }
    for (host, rule) in [
        ("[::1]", "loopback"),
        ("[::127.0.0.1]", "ipv4_compatible"),
        ("[64:ff9b::127.0.0.1]", "loopback"),
        ("[64:ff9b:1::7f00:1]", "local_use_nat64"),
        ("[2002:7f00:1::]", "6to4"),
        ("0", "this_network"),
        ("0x0", "this_network"),
        ("169.254.169.254", "link_local"),
        ("0xa9fea9fe", "link_local"),
        ("[fd00:ec2::254]", "unique_local"),
    ] {
        let url = base(&format!("https://{host}/"));
        assert_eq!(url.check_egress(&nobody).await.unwrap_err().rule(), rule, "{host}");
    }
}

#[actix_web::test]
async fn resolves_names_before_it_judges_them() {
    let nobody = EgressRules::default();
    for name in ["localhost", "LOCALHOST.", "localhost:11434"] {
        let refusal = base(&format!("https://{name}")).check_egress(&nobody).await.unwrap_err();
        assert_eq!(refusal.rule(), "loopback");
    }
    let loopback =
        EgressRules::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!(base("http://localhost").check_egress(&loopback).await, Ok(()));
    // RFC 6761: never resolves. It may still be saved.
    assert_eq!(base("https://nowhere.invalid").check_egress(&nobody).await, Ok(()));
}

#[actix_web::test]
async fn plain_http_to_a_public_address_is_refused() {
    let nobody = EgressRules::default();
    let refusal = base("http://1.1.1.1").check_egress(&nobody).await.unwrap_err();
    assert_eq!(refusal.rule(), "plain_http");
    assert_eq!(base("https://1.1.1.1").check_egress(&nobody).await, Ok(()));
}

#[test]
fn joins_path_and_queries() {
    for (typed, path, query, joined) in [
        ("https://h/v1", "/chat/completions", None, "/v1/chat/completions"),
        ("https://h", "/models", None, "/models"),
        ("https://h/v1/", "/models/a%2Fb", Some("limit=2"), "/v1/models/a%2Fb?limit=2"),
        ("https://h?v=1", "/models", None, "/models?v=1"),
        ("https://h/o?v=1&x", "/models", Some("a=b&a=c&d"), "/o/models?v=1&x&a=b&a=c&d"),
        ("https://h?v=1", "/m", Some("v=2&w=3"), "/m?v=1&w=3"),
        ("https://h?v=1", "/m", Some("V=2&%76=3&v&=4"), "/m?v=1&=4"),
        ("https://h?a+b=1", "/m", Some("a%20b=2"), "/m?a+b=1"),
        ("https://h?v=1", "/m", Some(""), "/m?v=1"),
        ("https://h", "/m", Some("&&a=%zz&"), "/m?a=%zz"),
    ] {
        assert_eq!(
            base(typed).join(path, query).path_and_query(),
            joined,
            "{typed} {path} {query:?}"
        );
    }
}

#[test]
fn the_host_header_leaves_out_the_default_port_only() {
    for (typed, host, uri) in [
        ("https://h", "h", "http://h:443/m"),
        ("http://h", "h", "http://h:80/m"),
        ("http://h:443", "h:443", "http://h:443/m"),
        ("https://h:80", "h:80", "http://h:80/m"),
        ("http://[::1]:8080", "[::1]:8080", "http://[::1]:8080/m"),
    ] {
        let target = base(typed).join("/m", None);
        assert_eq!(target.host_header(), host);
        assert_eq!(target.uri().unwrap().to_string(), uri);
        assert_eq!(target.is_plain_http(), typed.starts_with("http:"));
    }
}

#[test]
fn the_last_segment_can_be_another() {
    for (typed, other) in [
        ("https://a.example/v1beta", "https://a.example/v1"),
        ("https://a.example/b/v1beta/?x=1", "https://a.example/b/v1?x=1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
    ] {
        assert_eq!(base(typed).with_last_segment("v1"), base(other));
    }
}

proptest! {
    #[test]
    fn the_normal_form_is_stable_and_can_be_sent(
        text in "https?://[a-zA-Z0-9._-]{1,20}(:[0-9]{1,5})?(/[!-~ä]{0,12}){0,4}([?][!-~]{0,20})?",
    ) {
        if let Ok(url) = BaseUrl::parse(&text) {
            prop_assert_eq!(&BaseUrl::parse(url.as_str()).unwrap(), &url);
            let target = url.join("/models", None);
            prop_assert!(target.uri().is_ok());
            prop_assert!(target.path_and_query().starts_with('/'));
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,60}", path in "/\\PC{0,20}", query in "\\PC{0,20}") {
        if let Ok(url) = BaseUrl::parse(&text) {
            let _ = url.join(&path, Some(&query)).uri();
        }
    }

    /// Whatever the caller sends, the configured parameter comes first and only once.
    #[test]
    fn the_configuration_wins(query in "[vV%76=&a+;]{0,30}") {
        let joined = base("https://h?v=1").join("/m", Some(&query)).path_and_query().to_owned();
        let (_, joined) = joined.split_once('?').unwrap();
        let named: Vec<_> = form_urlencoded::parse(joined.as_bytes())
            .filter(|(name, _)| name.eq_ignore_ascii_case("v"))
            .collect();
        prop_assert_eq!(named, vec![("v".into(), "1".into())]);
    }
}
