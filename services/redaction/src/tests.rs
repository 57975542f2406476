//! Each shape by examples; what has to stay; what holds for every text.

use proptest::prelude::*;

use super::*;

// Put together here so that no scanner takes this file for a leak.
fn samples() -> Vec<(String, &'static str, &'static str)> {
    let mut samples = credentials();
    samples.extend(named());
    samples.extend(keys());
    samples.extend(personal());
    samples
}

fn credentials() -> Vec<(String, &'static str, &'static str)> {
    vec![
        (format!("Authorization: Basic {}", "dXNlcjpodW50ZXIy"), "dXNlcjpodW50ZXIy", "[redacted:token]"),
        (format!("authorization: {}", "0123abcd4567efgh"), "0123abcd", "authorization: [redacted:token]"),
        (
            format!("Authorization: Digest username=\"me\", response=\"{}\"", "6629fae49393a05397450978507c4ef1"),
            "6629fae4",
            "Digest [redacted:token]",
        ),
        (format!("set-cookie: sid={}; Path=/", "hunter2"), "hunter2", "set-cookie: [redacted:token]"),
        (format!("sent Bearer {}", "abcdefghij0123456789"), "abcdefghij", "[redacted:token]"),
        (format!("sent bearer {}", "abc123def456"), "abc123def456", "bearer [redacted:token]"),
        (format!("q=Bearer%20{}", "abc123def456"), "abc123def456", "Bearer%20[redacted:token]"),
        (format!("sent Basic {} twice", "dXNlcjpodW50ZXIy"), "dXNlcjpodW50ZXIy", "Basic [redacted:token] twice"),
        (format!("jwt {}.{}.sig", "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxIn0"), "eyJhbGci", "[redacted:token]"),
        ("postgres://app:hunter2@db:5432/x is down".into(), "hunter2", "postgres://[redacted:credentials]@db:5432/x"),
        ("redis://:hunter2@cache:6379".into(), "hunter2", "@cache:6379"),
        ("amqp://app:hun@ter2@mq/".into(), "ter2", "amqp://[redacted:credentials]@mq/"),
        ("mongodb+srv://a:h/ter2@m.example".into(), "ter2", "[redacted:credentials]@m.example"),
        ("to=postgres%3A%2F%2Fapp%3Ahunter2%40db".into(), "hunter2", "[redacted:credentials]@db"),
        (r"http:\/\/app:hunter2@db\/x".into(), "hunter2", r"[redacted:credentials]@db\/x"),
        ("https://0123456789abcdef0123@o1.ingest.example/4".into(), "0123456789abcdef", "@o1.ingest.example/4"),
        ("app:hunter2@tcp(db:3306)/shop".into(), "hunter2", "[redacted:credentials]@tcp(db:3306)/shop"),
        ("jdbc:oracle:thin:scott/hunter2@db:1521:x".into(), "hunter2", "thin:[redacted:credentials]@db:1521:x"),
        ("sqlplus scott/hunter2@//db:1521/x".into(), "hunter2", "sqlplus [redacted:credentials]@//db:1521/x"),
        ("curl -u app:hunter2 http://x".into(), "hunter2", "curl -u [redacted:secret] http://x"),
        (format!("-----BEGIN RSA {}-----\nMIIE\n-----END RSA {0}----- after", "PRIVATE KEY"), "MIIE", "after"),
        (format!("-----BEGIN+RSA+{}-----MIIE-----END+RSA+{0}-----+after", "PRIVATE+KEY"), "MIIE", "]+after"),
        (format!("-----BEGIN {}-----\nMIIE cut", "PRIVATE KEY"), "MIIE", "[redacted:private-key]"),
        (format!("-----BEGIN OPENSSH {}-----\\nb3Bl\\n", "PRIVATE KEY"), "b3Bl", "[redacted:private-key]"),
    ]
}

fn named() -> Vec<(String, &'static str, &'static str)> {
    let own = |text: &str, secret, kept| (text.to_owned(), secret, kept);
    vec![
        own("DB_PASSWORD=hunter2; retried", "hunter2", "[redacted:secret]; retried"),
        own(r#"{"api_key": "hunter2", "user": 1}"#, "hunter2", r#""user": 1"#),
        own(r#"{"a":"{\"api_key\":\"hunter2\",\"b\":1}"}"#, "hunter2", r#",\"b\":1"#),
        own("client-secret: 'hunter 2'", "hunter 2", "[redacted:secret]"),
        own("Server=db;Password=hunter2;Timeout=5", "hunter2", ";Timeout=5"),
        own("Server=db;PWD={hun;ter2};Timeout=5", "ter2", ";Timeout=5"),
        own("PGPASSWORD=hunter2 psql", "hunter2", "PGPASSWORD=[redacted:secret] psql"),
        own("clientSecret: hunter2", "hunter2", "clientSecret: [redacted:secret]"),
        own("jdbc:mysql://db/x?user=a&password=hunter2&tls=1", "hunter2", "&tls=1"),
        own("AccountName=a;AccountKey=aHVudGVyMg/x==;EndpointSuffix=b", "aHVudGVyMg", ";EndpointSuffix=b"),
        own(r#"password: "hun$ter2 <x" and on"#, "ter2", "password: [redacted:secret] and on"),
        own("password: $ecret{99", "ecret{99", "password: [redacted:secret]"),
        own("password: \"hunter2 cut", "hunter2", "password: [redacted:secret]"),
        own(r#"password="hun\"ter2" next"#, "ter2", "password=[redacted:secret] next"),
        own("pwd=<hunter2>", "hunter2", "pwd=[redacted:secret]"),
        own("password: |\n  hunter2\nnext: 1", "hunter2", "next: 1"),
        own("a?x=1%26password%3Dhunter2", "hunter2", "password%3D[redacted:secret]"),
        own("<db:password>hunter2</db:password>", "hunter2", "[redacted:secret]</db:password>"),
        own("- name: DB_PASSWORD\n  value: hunter2", "hunter2", "value: [redacted:secret]"),
        own("psql --password hunter2 -h db", "hunter2", "--password [redacted:secret] -h db"),
        own("the password is hunter2, they say", "hunter2", "is [redacted:secret], they say"),
        own("machine db login app password hunter2", "hunter2", "password [redacted:secret]"),
        own("https://x.example/a?b=1&sig=aGVsbG8%3D&c=2", "aGVsbG8", "b=1&sig=[redacted:secret]&c=2"),
        own("https://x.example/a?key=hunter2#top", "hunter2", "?key=[redacted:secret]#top"),
    ]
}

fn keys() -> Vec<(String, &'static str, &'static str)> {
    let key =
        |prefix: &str, rest: &'static str| (format!("key {prefix}{rest} leaked"), rest, "key [redacted:key] leaked");
    vec![
        key("AKIA", "IOSFODNN7EXAMPLE"),
        key("AIza", "SyA0123456789abcdefghijklmnopqrstuv"),
        key("GOCSPX-", "0123456789abcdefABCDEFGH"),
        key("a1b8Q~", "0123456789abcdefABCDEFGH0123456789"),
        key("LTAI", "5tAbCdEfGhIjKlMn"),
        key("dop_v1_", "0123456789abcdef0123456789abcdef0123456789abcdef"),
        key("ghp_", "0123456789abcdef0123456789abcdef0123"),
        key("github_pat_", "11ABCDEFG0123456789_abcdef"),
        key("glpat-", "0123456789abcdefABCD"),
        key("ATATT3", "xFfGF0123456789abcdef="),
        key("xoxb-", "123456789012-abcdef"),
        key("https://hooks.slack.com/services/", "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"),
        key("sk_live_", "0123456789abcdefABCD"),
        key("shpat_", "0123456789abcdef0123456789abcdef"),
        key("npm_", "0123456789abcdefghijABCDEFGHIJ012345"),
        key("pypi-", "AgEIcHlwaS5vcmcCJDAxMjM0NTY3ODkw"),
        key("rubygems_", "0123456789abcdef0123456789abcdef0123456789abcdef"),
        key("dckr_pat_", "0123456789abcdefABCDEFGHIJK"),
        key("hvs.", "CAESIJ0123456789abcdefABCDEF"),
        key("dapi", "0123456789abcdef0123456789abcdef"),
        key("glsa_", "0123456789abcdefABCDEFGHIJKLMNOP_01234567"),
        key("NRAK-", "0123456789ABCDEFGHIJ0123456"),
        key("SG.", "0123456789abcdefABCDEF.0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZ0"),
        key("sk-ant-", "api03-0123456789abcdefABCDEF"),
        key("%3Dghp_", "0123456789abcdef0123456789abcdef0123"),
        key(r"\nghp_", "0123456789abcdef0123456789abcdef0123"),
    ]
    .into_iter()
    // What leads to a key stays.
    .map(|(text, secret, kept)| (text, secret, if kept.contains("key [") { "[redacted:key] leaked" } else { kept }))
    .collect()
}

fn personal() -> Vec<(String, &'static str, &'static str)> {
    let own = |text: &str, secret, kept| (text.to_owned(), secret, kept);
    vec![
        own("paged jane.doe+oncall@mail.example.com twice", "jane.doe", "[redacted:email] twice"),
        own("/users/jane.doe%40mail.example.com/x", "jane.doe", "/users/[redacted:email]/x"),
        own("paged jane.doe@rds.amazonaws.com.example.com twice", "jane.doe", "[redacted:email] twice"),
        own("paged jürgen@exämple.de twice", "rgen", "[redacted:email] twice"),
        own("card 4111 1111 1111 1111 declined", "4111", "[redacted:card] declined"),
        own("card 4111 1111 1111 1111 12/27", "4111", "card [redacted:card] 12/27"),
        own("order 2025 4111 1111 1111 1111", "1111", "order 2025 [redacted:card]"),
        own("to BE68 5390 0754 7034 PAID", "5390", "to [redacted:iban] PAID"),
        own("?n=4111%201111%201111%201111&x", "4111", "?n=[redacted:card]&x"),
        own("to GB82 WEST 1234 5698 7654 32 today", "WEST", "to [redacted:iban] today"),
        own("call +49 (0)30 1234-5678 now", "1234", "call [redacted:phone] now"),
        own("?say=call+%2B4930123456789", "30123", "call+[redacted:phone]"),
        own("tel:+14155552671", "4155552671", "tel:[redacted:phone]"),
    ]
}

#[test]
fn secrets_go_and_the_rest_stays() {
    for (text, secret, kept) in samples() {
        let (redacted, count) = redact(&text);
        assert_eq!(count, 1, "{text} → {redacted}");
        assert!(!redacted.contains(secret), "{text} → {redacted}");
        assert!(redacted.contains(kept), "{text} → {redacted}");
    }
}

#[test]
fn plain_prose_is_let_be() {
    for text in [
        "basic authentication failed for bearer of bad news",
        "a basic understanding; Basic Understanding of basic configurations; the bearer satisfied all",
        "p99 rose to 1250 ms at 1793000000123, 4111 1111 1111 1112 requests",
        "https://status.example.com/incidents/42?x=1 and checkout@eu-1",
        "the token bucket was empty; password resets were slow; the password was wrong",
        "export PGPASSWORD=$DB_PASSWORD and token: <your token>",
        r#"password: "${DB_PASSWORD}", secret='$SECRET', api_key=<your-key>, "token": null"#,
        "password: {{ .Values.password }} and \"credentials\": { and password: \"\"",
        "curl -H \"Authorization: Bearer $API_KEY\" and POSTGRES_PASSWORD=$(openssl rand -hex 16)",
        "use <password> to log in; --password-file /run/x",
        "http://127.0.0.1:7104/path at 2026-11-14T19:20:00Z, 99.95 %",
        "http://[::1]:7104/a@b and {\"a\":\"http://h:80\",\"b\":\"x@y\"}",
        "risk-assessment-of-the-whole-platform, 10.0.0.7 and fe80::1, 2026-11-14 12:30:45.123",
        "trace 0af7651916cd43dd8448eb211c80319c span b7ad6b7169203331 at 1793000000123456789 ns",
        "x + 1793000000 and +1250 ms, @@ -1,5 +1,7 @@, lodash@4.17.21, @opentelemetry/api@1.9.0",
        "GET /orders/{id}/items, SELECT * FROM users WHERE id = ?, kafka/orders.v1",
        "orders@shop.c1x.us-west-2.rds.amazonaws.com_Database::SQL, orders@db.shop.svc.cluster.local",
        "component:default/payment-service, sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        assert_eq!(redact(text), (text.into(), 0));
    }
}

fn with_addresses() -> Redactor {
    Redactor::with_addresses(AddressKey::new(&[7; AddressKey::BYTES_MIN]).expect("long enough"))
}

#[test]
fn addresses_of_machines_go_where_it_is_wanted() {
    let with = with_addresses();
    for (text, expected) in [
        ("from 10.1.2.3:80 to 203.0.113.9", "from [redacted:ip]:80 to [redacted:ip]"),
        ("ipv6/2001:db8::1 and [fe80::1]:443", "ipv6/[redacted:ip] and [[redacted:ip]]:443"),
        ("::ffff:203.0.113.9.", "[redacted:ip]."),
        ("2001:db8::1 2001:db8::2,10.0.0.1,10.0.0.2", "[redacted:ip] [redacted:ip],[redacted:ip],[redacted:ip]"),
        ("at 12:30:45 2001:db8::1 failed", "at 12:30:45 [redacted:ip] failed"),
        ("dial 2001:db8::1: refused, peer:2001:db8::2", "dial [redacted:ip]: refused, peer:[redacted:ip]"),
        ("2001:db8:0:0:0:0:0:1:443 and fe80::1%eth0", "[redacted:ip]:443 and [redacted:ip]%eth0"),
        ("?a=10.0.0.7%3A80&b=2001%3Adb8%3A%3A1%20x", "?a=[redacted:ip]%3A80&b=[redacted:ip]%20x"),
        (r"\n10.0.0.7\n2001:db8::1 _10.0.0.7_", r"\n[redacted:ip]\n[redacted:ip] _[redacted:ip]_"),
        ("ip-10-0-0-7.ec2.internal, EC2-203-0-113-9", "[redacted:ip].ec2.internal, [redacted:ip]"),
        ("10-0-0-7.shop.pod.cluster.local", "[redacted:ip].shop.pod.cluster.local"),
        ("10.0.0.0/24 字10.0.0.7字", "[redacted:ip]/24 字[redacted:ip]字"),
        (
            "127.0.0.1:80, ::1, ::ffff:127.0.0.1, 0.0.0.0, at 12:30:45, 1.2.3, 300.1.1.1, v1.2.3.4, ship-10-0-0-7",
            "127.0.0.1:80, ::1, ::ffff:127.0.0.1, 0.0.0.0, at 12:30:45, 1.2.3, 300.1.1.1, v1.2.3.4, ship-10-0-0-7",
        ),
        ("std::collections::BTreeMap, aa:bb:cc:dd:ee:ff", "std::collections::BTreeMap, aa:bb:cc:dd:ee:ff"),
        ("aa:bb:cc:dd:ee:ff:00:11:22:33:44:55", "aa:bb:cc:dd:ee:ff:00:11:22:33:44:55"),
    ] {
        assert_eq!(with.redact(text).0, expected);
        assert_eq!(redact(text).0, text);
    }
}

#[test]
fn in_a_name_each_address_has_a_pseudonym_of_its_own() {
    let (with, without) = (with_addresses(), Redactor::default());
    let seven = with.redact_name("10.0.0.7").into_owned();
    assert!(is_pseudonym(&seven) && with.address([10, 0, 0, 7].into()) == seven, "{seven}");
    for (name, expected) in [
        ("10.0.0.7:8080", format!("{seven}:8080")),
        ("::ffff:10.0.0.7", seven.clone()),
        ("[::ffff:10.0.0.7]:80", format!("[{seven}]:80")),
        ("redis/10.0.0.7", format!("redis/{seven}")),
        ("ip-10-0-0-7.ec2.internal", format!("{seven}.ec2.internal")),
        ("10-0-0-7.shop.pod", format!("{seven}.shop.pod")),
        ("shop for jane@mail.example at 10.0.0.7", format!("shop for [redacted:email] at {seven}")),
        ("token=10.0.0.7", "token=[redacted:secret]".into()),
        ("localhost:80 and 127.0.0.1:80", "localhost:80 and 127.0.0.1:80".into()),
    ] {
        assert_eq!(with.redact_name(name), expected);
        assert_eq!(with.redact_name(&expected), expected);
    }
    assert_ne!(with.redact_name("10.0.0.8"), seven);
    let other = Redactor::with_addresses(AddressKey::new(&[8; AddressKey::BYTES_MIN]).expect("long enough"));
    assert_ne!(other.redact_name("10.0.0.7"), seven);
    assert_eq!(
        (without.redact_name("10.0.0.7:80"), without.address([10, 0, 0, 7].into())),
        ("10.0.0.7:80".into(), "10.0.0.7".into())
    );
    assert!(AddressKey::new(&[7; AddressKey::BYTES_MIN - 1]).is_none());
    assert!(!is_pseudonym("ip-10-0-0-7") && !is_pseudonym("ip-0123456789AB") && !is_pseudonym("ip-0123456789abc"));
    assert_eq!(format!("{with:?}"), "Redactor { addresses: Some(AddressKey(…)) }");
}

#[test]
fn long_text_takes_time_in_proportion() {
    // Each repeats what makes a shape begin and never end; quadratic time would take minutes.
    for part in [
        "password",
        "a:b/",
        "http://a:",
        "Bearer ",
        "-----BEGIN ",
        "name: password ",
        "4 ",
        "a@",
        "login x ",
        "1:",
        "a:",
        "1000.",
        ":",
        "1-",
        // Without the blank it reads as one address after the other: `3A::`.
        "%3A ",
    ] {
        let (_, count) = with_addresses().redact(&part.repeat(20_000));
        assert_eq!(count, 0, "{part}");
    }
}

proptest! {
    #[test]
    fn redacting_twice_changes_nothing(before in "\\PC{0,40}", after in "\\PC{0,40}", i in 0usize..80) {
        let samples = samples();
        let text = format!("{before} {} {after}", samples[i % samples.len()].0);
        for redactor in [Redactor::default(), with_addresses()] {
            let once = redactor.redact(&text).0.into_owned();
            prop_assert_eq!(redactor.redact(&once), (once.as_str().into(), 0));
        }
    }

    #[test]
    fn redacting_what_is_glued_together_twice_changes_nothing(
        i in 0usize..80,
        j in 0usize..80,
        glue in "[ \"'{}\\[\\]:=@/%\\\\&;,.<>$-]{0,4}",
    ) {
        let samples = samples();
        let text = format!("{}{glue}{}", samples[i % samples.len()].0, samples[j % samples.len()].0);
        let once = redact(&text).0.into_owned();
        prop_assert_eq!(redact(&once), (once.as_str().into(), 0), "{}", text);
    }

    #[test]
    fn a_secret_goes_whatever_stands_around_it(before in "[a-z .,]{0,40}", after in "[a-z .,]{0,40}", i in 0usize..80) {
        let samples = samples();
        let (text, secret, _) = &samples[i % samples.len()];
        let redacted = redact(&format!("{before} {text} {after}")).0.into_owned();
        prop_assert!(!redacted.contains(secret), "{}", redacted);
    }
}
