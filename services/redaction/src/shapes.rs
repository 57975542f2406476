//! The shapes of secrets and personal data, as data: what to look for, what hints that looking is worth while, what stands
//! there afterwards.
//!
//! Sources: the prefixes that issuers publish for their keys (most of them for secret scanning), RFC 7468 (PEM), RFC 7617
//! (basic credentials), RFC 6750 (bearer tokens), RFC 7515 (JSON Web Tokens), RFC 3986 (credentials in addresses), ISO/IEC
//! 7812-1 (card numbers), ISO 13616 (IBAN), ITU-T E.164 (telephone numbers).

use std::sync::LazyLock;

use regex::{Captures, Regex, RegexSet};

use super::checks;

/// One shape. Groups named `lead`, `head` and `tail` of the pattern stay; the rest of a match is replaced by the mark.
pub(crate) struct Shape {
    pub(crate) pattern: Regex,
    pub(crate) mark: &'static str,
    pub(crate) is_one: Option<Check>,
    pub(crate) run: Option<Run>,
}

type Check = fn(&Captures<'_>) -> bool;
/// A name of a group, and whether what it holds is one.
type Run = (&'static str, fn(&str) -> bool);

/// A shape as it is written down.
struct Written {
    /// What every match contains: quick to look for, all hints together in one pass.
    hint: &'static str,
    pattern: String,
    mark: &'static str,
}

/// Words for what is spelt in several ways: as it is, percent-encoded as in addresses, escaped as in JSON.
const SPELLINGS: &[(&str, &str)] = &[
    ("{value}", VALUE),
    ("{names}", NAMES),
    ("{keys}", KEYS),
    ("{bound}", r"(?P<lead>(?-u:\b)|_|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[nrtbf])"),
    ("{at}", r"(?:@|%40|\\u0040)"),
    ("{colon}", r"(?::|%3[aA]|\\u003[aA])"),
    ("{dot}", r"(?:\.|%2[eE]|\\u002[eE])"),
    ("{slash}", r"(?:\\?/|%2[fF]|\\u002[fF])"),
    ("{is}", r"(?:[:=]{1,2}>?|%3[aAdD]|\\u003[aAdD])"),
    ("{quote}", r#"(?:\\*["'`]|%2[27]|\\u002[27])?"#),
    ("{gap}", r"(?:\s|\\[nrt])"),
    ("{blank}", r"(?:\s|%20|\+)+"),
    ("{space}", r"(?:[ +]|%20)"),
    ("{digits}", r"(?:(?:[ \u{a0}+-]|%20)?[0-9])"),
];

/// Ends of names whose values are secrets; what stands before them does not matter (`DB_PASSWORD`, `clientSecret`).
const NAMES: &str = "(?:password|passwd|passphrase|passcode|pwd|secret|token|credentials?|connection[_-]?string\
    |(?:api|access|private|account|master|encryption|signing|auth|storage|license|shared|hmac|ssh|service|client|app|host|write|ingest)[_-]?key\
    |shared[_-]?access[_-]?signature|session[_-]?id|jsessionid|phpsessid|webhook[_-]?url|cvv2?|cvc2?|(?:\\b|%[0-9a-f]{2}|\\\\[nrt])_auth\
    |(?:[_.-]|user|root|admin|smtp|ftp)pass)(?:[_.-]?[0-9]+|[_.-][a-z0-9]+|(?-i:[A-Z][a-z0-9]+))*";

/// A value: a mark that stands there already, quoted (the closing quote may be cut off), in braces, or up to a blank or a
/// separator.
const VALUE: &str = r#"(?:\[redacted:[a-z-]+\]|\\+"(?:[^"\\\r\n]|\\+[^"\\\r\n]|\\{3,}")*(?:\\+")?|"(?:[^"\\\r\n]|\\.)*"?|'(?:[^'\\\r\n]|\\.)*'?|\{[^{}\r\n]*\}|[^\s"',;&](?:[^\s"',;&]|["'][A-Za-z0-9])*)"#;

/// Keys with the prefixes that their issuers publish.
const KEYS: &str = concat!(
    // Clouds: AWS, Azure, Google, Alibaba, DigitalOcean, Scaleway, Fly.
    r"(?:AKIA|ASIA|AGPA|AROA|AIDA|ANPA|ANVA|AIPA|ABIA|ACCA)[0-9A-Z]{16}|ABSK[A-Za-z0-9+/]{40,}=*|amzn\.mws\.[0-9a-f-]{36}",
    r"|[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{30,}|AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}",
    r"|LTAI[A-Za-z0-9]{12,}|do[opr]_v1_[a-f0-9]{40,}|SCW[A-Z0-9]{17}|FlyV1 [A-Za-z0-9_,=+/-]{20,}|fo1_[A-Za-z0-9_-]{20,}",
    // Version control and builds: GitHub, GitLab, Bitbucket, Atlassian, CircleCI, Buildkite, SonarQube.
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|gl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent|oas|ffct)-[A-Za-z0-9_-]{16,}",
    r"|ATBB[A-Za-z0-9]{24,}|AT(?:ATT|CTT)3[A-Za-z0-9_=-]{20,}|CCIPAT_[A-Za-z0-9_]{20,}|bkua_[a-f0-9]{30,}|sq[pua]_[a-f0-9]{40}",
    // Chat: Slack, Discord, Telegram, Teams.
    r"|xox[abceoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{10,}",
    r"|discord(?:app)?\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{20,}|[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
    r"|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}|webhook\.office\.com/webhookb2/[A-Za-z0-9@/_-]{20,}",
    // Payment and shops: Stripe, Square, Shopify, Razorpay, PayPal.
    r"|(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}|sq0(?:atp|csp)-[A-Za-z0-9_-]{20,}|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{20,}",
    r"|rzp_(?:live|test)_[A-Za-z0-9]{14,}|access_token\$production\$[a-z0-9]{16}\$[a-f0-9]{32}",
    // Package registries: npm, PyPI, RubyGems, Docker, crates.io, NuGet, Artifactory.
    r"|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|rubygems_[a-f0-9]{40,}|dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|cio[A-Za-z0-9]{32}",
    r"|oy2[a-z0-9]{43}|AKCp[0-9A-Za-z]{50,}",
    // Secrets and databases: Vault, Terraform, Pulumi, Doppler, PlanetScale, Supabase, Databricks, age.
    r"|hv[sbr]\.[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}|pul-[a-f0-9]{40}|dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{30,}",
    r"|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_=.-]{20,}|sbp_[a-f0-9]{40}|dapi[a-f0-9]{32}|AGE-SECRET-KEY-1[A-Z0-9]{20,}",
    // Observability: Grafana, New Relic, Sentry, Dynatrace, Honeycomb.
    r"|gl(?:c|sa)_[A-Za-z0-9_+/=]{20,}|NR(?:AK|II|IQ|RA|JS|BR)-[A-Za-z0-9_-]{19,}|sntry[su]_[A-Za-z0-9_+/=-]{20,}|dt0[cs][0-9]{2}\.[A-Z0-9]{8,}\.[A-Z0-9]{40,}|hc[abc]i[ck]_[a-z0-9]{40,}",
    // Mail, models and the rest: SendGrid, Mailgun, Mailchimp, Brevo, Twilio, OpenAI, Anthropic, Hugging Face, Groq, Linear,
    // Notion, Figma, Postman, LaunchDarkly.
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}|key-[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2}|xkeysib-[a-f0-9]{40,}[A-Za-z0-9-]*|SK[0-9a-f]{32}",
    r"|sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z]{30,}|gsk_[A-Za-z0-9]{30,}|lin_(?:api|oauth)_[A-Za-z0-9]{30,}|ntn_[A-Za-z0-9]{30,}|fig[dou]_?[A-Za-z0-9_-]{40,}",
    r"|PMAK-[a-f0-9]{20,}-[a-f0-9]{30,}|(?:sdk|mob|api)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
);

/// What every key contains.
const KEYS_HINT: &str = "AKIA|ASIA|AGPA|AROA|AIDA|ANPA|ANVA|AIPA|ABIA|ACCA|ABSK|amzn|[78]Q~|AIza|ya29|GOCSPX|LTAI|_v1_\
    |SCW[A-Z0-9]|FlyV1|fo1_|gh[pousr]_|github_pat|gl[a-z]+-|ATBB|AT[AC]TT3|CCIPAT|bkua_|sq[pua0]|xox[a-z]-|xapp-|hooks\\.slack\
    |/webhook|[MNO][A-Za-z0-9_-]{23,27}\\.|:AA|webhookb2|(?:[srp]k|whsec)_|shp[a-z]|rzp_|\\$production|npm_|pypi-|rubygems_\
    |dckr_|cio[A-Za-z0-9]{32}|oy2|AKCp|hv[sbr]\\.|atlasv1|pul-|dp\\.[a-z]|pscale_|sbp_|dapi|SECRET-KEY|gl(?:c|sa)_|NR[A-Z]{2}-\
    |sntry|dt0|hc[abc]i|SG\\.|key-|-us[0-9]|xkeysib|SK[0-9a-f]|sk-|hf_|gsk_|lin_|ntn_|fig[dou]|PMAK|(?:sdk|mob|api)-[0-9a-f]{8}";

/// In this order: what holds other shapes comes first.
fn written() -> Vec<Written> {
    let shape = |hint, mark, pattern: &str| Written { hint, pattern: spelt(pattern), mark };
    vec![
        // Private keys as PEM, also cut off ones, and as PuTTY writes them.
        shape(
            "-BEGIN|---- BEGIN|PuTTY-User",
            "private-key",
            r"(?s)-----BEGIN{space}(?:[A-Z0-9]|{space})*PRIVATE{space}KEY(?:{space}BLOCK)?-----.*?(?:-----END{space}(?:[A-Z0-9]|{space})*PRIVATE{space}KEY(?:{space}BLOCK)?-----|\z)|---- BEGIN SSH2 [A-Z ]*PRIVATE KEY ----.*?(?:---- END [A-Z0-9 ]*PRIVATE KEY ----|\z)|PuTTY-User-Key-File-.*?(?:Private-MAC: *[0-9a-f]+|\z)",
        ),
        // scheme://user:password@host.
        shape(
            "{colon}{slash}{slash}[^\\s]*{at}",
            "credentials",
            r#"(?P<head>[A-Za-z][A-Za-z0-9+.-]{0,30}{colon}{slash}{slash})[^\s/@:\[\]"'<>,;?#]*?{colon}(?P<password>[^\s/"'<>?#]*@|[^\s"<>]*?{at})"#,
        ),
        // scheme://token@host.
        shape(
            "{colon}{slash}{slash}[^\\s]*{at}",
            "credentials",
            r#"(?P<head>[A-Za-z][A-Za-z0-9+.-]{0,30}{colon}{slash}{slash})(?P<token>[^\s/@:\[\]"'<>,;?#]{16,}?)(?P<tail>{at})"#,
        ),
        // user:password@tcp(host), thin:user/password@host, user/password@//host.
        shape(
            r"@(?:tcp|udp|unix)\(|@//|(?i-u:thin|oci8?):",
            "credentials",
            r#"(?i)(?P<head>(?:thin|oci8?):)[^\s/@\[\]"']+/[^\s@]+(?P<tail>@)|[^\s:/@"'=\[\]]+:[^\s"'\[\]]+(?P<tail2>@(?:tcp|udp|unix)\()|[a-z0-9_$#]+/[^\s/@\[\]]+(?P<tail3>@//)"#,
        ),
        // Authorization headers: of schemes with one value, with several, and of none.
        shape(
            "(?i-u:authorization)",
            "token",
            r#"(?i)(?P<head>authorization{quote}\s*{is}\s*{quote}(?:basic|bearer|token|apikey|api-key|key|geniekey|sso-key|negotiate|ntlm|jwt|dpop|splunk|sharedkey|sharedkeylite){blank}(?:token=)?)(?P<value>[^\s"',;\[\]]+)"#,
        ),
        shape(
            "(?i-u:authorization)",
            "token",
            r"(?i)(?P<head>authorization{quote}\s*{is}\s*{quote}(?:digest|aws4-hmac-sha256|hawk|hmac|signature|oauth){blank})[^\r\n\[\]]+",
        ),
        shape(
            "(?i-u:authorization)",
            "token",
            r"(?i)(?P<head>authorization{quote}\s*{is}\s*{quote})(?P<token>[A-Za-z0-9._~+/=-]{12,})",
        ),
        shape("(?i-u:cookie)", "token", r#"(?i)(?P<head>cookie{quote}\s*{is}\s*{quote})[^\s=;"'\[\]]+=[^\r\n"']*"#),
        shape(
            "(?i-u:bearer)",
            "token",
            r"(?i){bound}(?P<head>bearer{blank})(?P<bearer>(?:[A-Za-z0-9._~+/-]|%2[bBfF]){12,}(?:=|%3[dD])*)",
        ),
        shape(
            "(?i-u:basic)",
            "token",
            r"(?i){bound}(?P<head>basic{blank})(?P<basic>(?:[A-Za-z0-9+/]|%2[bBfF]){8,}(?:=|%3[dD]){0,2})",
        ),
        // name=value, name: value, "name": "value", wherever the name speaks of a secret.
        shape(
            "(?i-u:pass|pwd|secret|token|cred|key|sess|sig|connection|webhook|cvv|cvc|_auth)",
            "secret",
            r"(?i)(?P<head>{names}{quote}\s*{is}{gap}*(?:[|>][+-]?{gap}+)?)(?P<value>{value})",
        ),
        // <password>value</password>.
        shape(
            r"<\\?/",
            "secret",
            r"(?i)(?P<head><[a-z0-9_.:-]*{names}(?:\s[^<>]*)?>)(?P<value>[^<\s][^<]*)(?P<tail><\\?/)",
        ),
        // A name and a value that stand apart, as in the environment of a container.
        shape(
            "(?i-u:value)",
            "secret",
            r"(?i)(?P<head>name{quote}\s*:\s*{quote}[a-z0-9_.-]*{names}{quote},?{gap}+{quote}value{quote}\s*:\s*)(?P<value>{value})",
        ),
        // Arguments of commands.
        shape(
            "--[a-zA-Z]|sshpass|(?:^|\\s)-u",
            "secret",
            r#"(?i)(?P<head>--(?:[a-z0-9]+-)*(?:password|passwd|passphrase|pass|pwd|secret|token|(?:api|access|private)-?key)\s+|sshpass\s+-p\s*)(?P<value>{value})|(?P<head2>(?:(?:^|\s)-u|--user|--proxy-user)[ =]["']?)[^\s:"'\[\]]+:[^\s"']+"#,
        ),
        // Sentences, and the file of passwords that several clients read.
        shape(
            "(?i-u:pass|secret)",
            "secret",
            r"(?i)(?P<head>(?:password|passwd|passphrase|secret)\s+(?:is|was|to)\s+)(?P<said>{value})|(?P<head2>login\s+\S+\s+password\s+)(?P<value>{value})",
        ),
        // Values of addresses' parameters that grant access.
        shape(
            "(?i-u:sig|token|key|code|auth|sas|sess|sid|jwt|secret|pass|pwd|credential|accessid|hmac|otp|ticket|saml|assertion)",
            "secret",
            r#"(?i)(?P<head>(?:[?&;]|%3f|%26|\\u0026)(?:sig|signature|[a-z_]*token|key|code|code_verifier|auth|sas|session|sid|jwt|secret|pass|pwd|x-(?:amz|goog)-(?:signature|credential|security-token)|googleaccessid|hmac|otp|ticket|samlresponse|assertion)(?:=|%3d|\\u003d))[^\s&"'<>#;\[\]]+"#,
        ),
        // JSON Web Tokens, signed or encrypted.
        shape("eyJ", "token", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*"),
        shape(KEYS_HINT, "key", "{bound}(?:{keys})"),
        // Keys of Azure's storage: 64 bytes in base64.
        shape("==|%3[dD]%3[dD]", "key", r"(?-u:\b)[A-Za-z0-9+/]{86}(?:==|%3[dD]%3[dD])"),
        // Hashes of passwords.
        shape(
            r"\$[a-z0-9-]+\$",
            "secret",
            r"\$(?:2[abxy]|apr1|[156]|y|argon2(?:id|i|d)|scrypt|pbkdf2[a-z0-9-]*)\$[./A-Za-z0-9$=,+-]{16,}",
        ),
        // E-mail addresses.
        shape(
            "{at}",
            "email",
            r"(?P<lead>(?:\\[nrt])?)[\p{L}\p{N}._%+-]+{at}(?P<host>[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,})",
        ),
        // Bank accounts and payment cards. First digits as issuers have them, so that times in milliseconds are let be.
        shape(
            r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}",
            "iban",
            r"{bound}(?P<iban>[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?-u:\b)",
        ),
        shape("[2-6]{digits}{12}", "card", r"{bound}(?P<card>[2-6]{digits}{12,18})(?-u:\b)"),
        // Telephone numbers where they are written for the whole world, with a plus sign.
        shape(
            r"(?:\+|%2[bB])[1-9]",
            "phone",
            r"(?P<lead>^|\W|%[0-9A-Fa-f]{2}|\\[nrt])(?:\+|%2[bB])[1-9](?:(?:[ ().\u{a0}-]{0,2}|%20)[0-9]){7,14}(?-u:\b)",
        ),
    ]
}

/// What the groups of these names must pass.
const CHECKS: &[(&str, Check)] = &[
    ("password", |found| !checks::begins_with_a_port(&found["password"])),
    ("token", |found| checks::mixes(&found["token"])),
    ("bearer", |found| checks::is_bearer_token(&found["bearer"])),
    ("basic", |found| checks::is_basic_credentials(&found["basic"])),
    ("said", |found| {
        found.name("value").or(found.name("said")).is_some_and(|value| {
            let digits = value.as_str().contains(|c: char| c.is_ascii_digit());
            (digits || found.name("value").is_some()) && !checks::is_reference(value.as_str())
        })
    }),
    ("host", |found| !checks::is_endpoint(&found["host"])),
    ("value", |found| found.name("value").is_none_or(|value| !checks::is_reference(value.as_str()))),
];

/// Groups of bounded runs, and what they must pass, as a whole or up to one of their separators.
const RUNS: &[Run] = &[("iban", checks::is_iban), ("card", checks::is_card)];

/// The shapes, in order.
pub(crate) static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let shape = |written: Written| {
        let pattern = Regex::new(&written.pattern).expect("the patterns of this file are valid");
        let named = |name: &str| pattern.capture_names().flatten().any(|group| group == name);
        let is_one = CHECKS.iter().find(|(name, _)| named(name)).map(|(_, check)| *check);
        let run = RUNS.iter().find(|(name, _)| named(name)).copied();
        Shape { pattern, mark: written.mark, is_one, run }
    };
    written().into_iter().map(shape).collect()
});

/// The hints of the shapes, in the same order: one pass over a text tells which shapes can be there.
pub(crate) static HINTS: LazyLock<RegexSet> = LazyLock::new(|| {
    let hints = written().into_iter().map(|written| spelt(written.hint));
    RegexSet::new(hints).expect("the hints of this file are valid")
});

/// A pattern with every word of [`SPELLINGS`] spelt out.
pub(crate) fn spelt(pattern: &str) -> String {
    // Twice: what a word stands for may have such words itself.
    let once = |pattern: String, (word, meant): &(&str, &str)| pattern.replace(word, meant);
    SPELLINGS.iter().chain(SPELLINGS).fold(pattern.to_owned(), once)
}
