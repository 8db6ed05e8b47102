//! URI templates as matchers, as clients of Mercure 0.x have them. [RFC 6570; Mercure 0.x, Topic Selectors]
//!
//! A template takes whatever it could be expanded to, with values that it doesn't know: none, texts, lists, or pairs. So it is made a
//! regular expression, which is matched without backtracking.

use std::fmt::Write as _;

use regex::bytes::Regex;

use crate::{Pattern, PatternError, pattern::compile};

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Template {
    /// What everything that it takes begins with: most topics are told apart by that.
    prefix: Box<str>,
    regex: Regex,
}

impl Template {
    /// Compiles a template. None for a text that is no template, or one without variables, which takes itself and nothing else.
    pub(crate) fn new(text: &str) -> Result<Option<Self>, PatternError> {
        let Some(parts) = parse(text).filter(|parts| parts.iter().any(|part| matches!(part, Part::Expression { .. })))
        else {
            return Ok(None);
        };
        let prefix = match parts.first() {
            Some(Part::Literal(literal)) => {
                literal.split(|c: char| c == '%' || !c.is_ascii()).next().unwrap_or_default()
            }
            _ => "",
        };
        let mut source = r"\A".to_owned();
        for part in &parts {
            match part {
                Part::Literal(literal) => write_literal(&mut source, literal),
                Part::Expression { operator, variables } => write_expression(&mut source, operator, variables),
            }
        }
        source.push_str(r"\z");
        let regex = compile(&source, Pattern::TEMPLATE_BYTES_MAX).ok_or(PatternError::Template)?;
        Ok(Some(Self { prefix: prefix.into(), regex }))
    }

    /// Whether the template could be expanded to this.
    pub(crate) fn takes(&self, topic: &str) -> bool {
        topic.starts_with(&*self.prefix) && self.regex.is_match(topic.as_bytes())
    }
}

#[derive(Debug)]
enum Part<'a> {
    Literal(&'a str),
    Expression { operator: Operator, variables: Vec<Variable<'a>> },
}

/// How the values of an expression are written. [RFC 6570 §3.2.1, Appendix A]
#[derive(Debug, Clone, Copy)]
struct Operator {
    first: &'static str,
    separator: &'static str,
    /// Values come behind their names.
    named: bool,
    /// What is between a name and an empty value.
    if_empty: &'static str,
    /// Reserved characters aren't encoded.
    reserved: bool,
}

#[derive(Debug, Clone, Copy)]
struct Variable<'a> {
    name: &'a str,
    modifier: Modifier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modifier {
    None,
    /// So many characters at the most.
    Prefix(u32),
    /// Each member of a list, or pair, by itself.
    Explode,
}

impl Operator {
    const fn new(first: &'static str, separator: &'static str) -> Self {
        Self { first, separator, named: false, if_empty: "", reserved: false }
    }

    fn of(c: char) -> Option<Self> {
        let named = |first, separator, if_empty| Self { named: true, if_empty, ..Self::new(first, separator) };
        Some(match c {
            '+' => Self { reserved: true, ..Self::new("", ",") },
            '#' => Self { reserved: true, ..Self::new("#", ",") },
            '.' => Self::new(".", "."),
            '/' => Self::new("/", "/"),
            ';' => named(";", ";", ""),
            '?' => named("?", "&", "="),
            '&' => named("&", "&", "="),
            _ => return None,
        })
    }

    /// Values may hold the separator, so that where one ends isn't to be seen.
    fn is_blurred(&self, variables: &[Variable<'_>]) -> bool {
        let whole = variables.iter().all(|variable| !matches!(variable.modifier, Modifier::Prefix(_)));
        whole && !self.named && self.separator != "/"
    }
}

/// None for a text that is no template. [RFC 6570 §2]
fn parse(text: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        match rest.strip_prefix('{') {
            None => {
                let (literal, behind) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
                is_literal(literal).then_some(())?;
                parts.push(Part::Literal(literal));
                rest = behind;
            }
            Some(inside) => {
                let (expression, behind) = inside.split_once('}')?;
                let operator = expression.chars().next().and_then(Operator::of);
                let list = if operator.is_some() { &expression[1..] } else { expression };
                let variables = list.split(',').map(variable).collect::<Option<_>>()?;
                parts.push(Part::Expression { operator: operator.unwrap_or(Operator::new("", ",")), variables });
                rest = behind;
            }
        }
    }
    Some(parts)
}

/// [RFC 6570 §2.1]
fn is_literal(text: &str) -> bool {
    text.chars().all(|c| !matches!(c, '\0'..=' ' | '"' | '\'' | '<' | '>' | '\\' | '^' | '`' | '|' | '}' | '\u{7f}'))
        && has_whole_triplets(text)
}

/// [RFC 6570 §2.3, §2.4]
fn variable(text: &str) -> Option<Variable<'_>> {
    let (name, modifier) = if let Some(name) = text.strip_suffix('*') {
        (name, Modifier::Explode)
    } else if let Some((name, length)) = text.split_once(':') {
        let digits = length.bytes().all(|byte| byte.is_ascii_digit()) && !length.starts_with('0') && length.len() <= 4;
        (name, Modifier::Prefix(length.parse().ok().filter(|_| digits)?))
    } else {
        (text, Modifier::None)
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '%');
    let legal = name.split('.').all(|part| !part.is_empty() && part.chars().all(legal));
    (legal && has_whole_triplets(name)).then_some(Variable { name, modifier })
}

/// Whether each `%` begins an encoded byte.
fn has_whole_triplets(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|behind| behind.len() >= 2 && behind.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// A literal is expanded to itself, and what no URI may hold to its encoded bytes. [RFC 6570 §3.1] Topics are written either way.
fn write_literal(source: &mut String, literal: &str) {
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            source.push('%');
            chars.by_ref().take(2).for_each(|digit| write_digit(source, digit));
        } else if c.is_ascii() {
            source.push_str(&regex::escape(c.encode_utf8(&mut [0; 1])));
        } else {
            let _ = write!(source, "(?:{c}|");
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                source.push('%');
                format!("{byte:02X}").chars().for_each(|digit| write_digit(source, digit));
            }
            source.push(')');
        }
    }
}

/// A hex digit, whose case means nothing.
fn write_digit(source: &mut String, digit: char) {
    let _ = match digit {
        '0'..='9' => write!(source, "{digit}"),
        _ => write!(source, "[{}{}]", digit.to_ascii_uppercase(), digit.to_ascii_lowercase()),
    };
}

fn write_expression(source: &mut String, operator: &Operator, variables: &[Variable<'_>]) {
    let (first, separator) = (regex::escape(operator.first), regex::escape(operator.separator));
    if operator.is_blurred(variables) {
        let exploded = variables.iter().any(|variable| variable.modifier == Modifier::Explode);
        let _ = write!(source, "(?:{first}{})?", characters(operator, if exploded { ",=" } else { "," }));
        return;
    }
    let items: Vec<String> = variables.iter().map(|variable| item(operator, variable, &separator)).collect();
    let behind = |items: &[String]| items.iter().map(|item| format!("(?:{separator}{item})?")).collect::<String>();
    if first == separator {
        source.push_str(&behind(&items));
        return;
    }
    // Whichever value is there first.
    let from = |index: usize| format!("{}{}", items[index], behind(&items[index + 1..]));
    let choices: Vec<String> = (0..items.len()).map(from).collect();
    let _ = write!(source, "(?:{first}(?:{}))?", choices.join("|"));
}

/// What a variable is expanded to if it has a value, lists and pairs being values, too.
fn item(operator: &Operator, variable: &Variable<'_>, separator: &str) -> String {
    let name = regex::escape(variable.name);
    let value = match variable.modifier {
        Modifier::None => characters(operator, ","),
        Modifier::Prefix(length) => prefix(operator, length),
        Modifier::Explode => {
            // With pairs there is any name.
            let one = format!("{}(?:={0})?", characters(operator, ""));
            return format!("{one}(?:{separator}{one})*");
        }
    };
    match (operator.named, operator.if_empty) {
        (false, _) => value,
        (true, "") => format!("{name}(?:={value})?"),
        (true, _) => format!("{name}={value}"),
    }
}

/// Any number of characters as they are expanded, and of some that aren't encoded because they belong to a list.
fn characters(operator: &Operator, of_list: &str) -> String {
    format!("(?:[{UNRESERVED}{}{of_list}]|%{HEX}{{2}})*", operator.reserved_class())
}

/// Up to so many characters, each of up to four encoded bytes. [RFC 6570 §2.4.1]
fn prefix(operator: &Operator, length: u32) -> String {
    let plain = operator.reserved_class();
    let more = format!("%[89ABab]{HEX}");
    format!(
        "(?:[{UNRESERVED}{plain}]|%[0-7]{HEX}|%[CDcd]{HEX}{more}|%[Ee]{HEX}(?:{more}){{2}}|%[Ff]{HEX}(?:{more}){{3}}){{0,{length}}}"
    )
}

impl Operator {
    fn reserved_class(&self) -> &'static str {
        if self.reserved { r":/?#\[\]@!$\&'()*+,;=" } else { "" }
    }
}

/// Of a class of characters. [RFC 3986 §2.3]
const UNRESERVED: &str = r"A-Za-z0-9\-._\~";
const HEX: &str = "[0-9A-Fa-f]";

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Instant};

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn template(text: &str) -> Template {
        Template::new(text).unwrap().unwrap_or_else(|| panic!("{text} is a template"))
    }

    #[derive(Debug, Clone)]
    enum Value {
        Undefined,
        Text(String),
        List(Vec<String>),
        Pairs(Vec<(String, String)>),
    }

    type Values = HashMap<&'static str, Value>;

    /// Expands a template, step by step as the RFC has it; none where a prefix is asked of a list. [RFC 6570 §3.2.1]
    fn expand(text: &str, values: &Values) -> Option<String> {
        let mut out = String::new();
        for part in parse(text).unwrap() {
            match part {
                Part::Literal(literal) => out.push_str(&encode(literal, true)),
                Part::Expression { operator, variables } => {
                    let mut between = operator.first;
                    for variable in variables {
                        if let Some(expansion) = expand_variable(&operator, variable, &values[variable.name])? {
                            out.push_str(between);
                            out.push_str(&expansion);
                            between = operator.separator;
                        }
                    }
                }
            }
        }
        Some(out)
    }

    /// None for what can't be, and then none for what isn't there.
    #[expect(clippy::option_option, reason = "two kinds of nothing")]
    fn expand_variable(operator: &Operator, variable: Variable<'_>, value: &Value) -> Option<Option<String>> {
        let encode = |text: &str| encode(text, operator.reserved);
        let named = |name: &str, value: &str| match value {
            "" => format!("{name}{}", operator.if_empty),
            value => format!("{name}={value}"),
        };
        let by_name = |value: String| if operator.named { named(variable.name, &value) } else { value };
        let explode = variable.modifier == Modifier::Explode;
        Some(match (value, variable.modifier) {
            (Value::Undefined, _) => None,
            (Value::List(list), _) if list.is_empty() => None,
            (Value::Pairs(pairs), _) if pairs.is_empty() => None,
            (Value::Text(text), Modifier::Prefix(length)) => {
                Some(by_name(encode(&text.chars().take(length as usize).collect::<String>())))
            }
            (_, Modifier::Prefix(_)) => return None,
            (Value::Text(text), _) => Some(by_name(encode(text))),
            (Value::List(list), _) if explode => {
                Some(list.iter().map(|text| by_name(encode(text))).collect::<Vec<_>>().join(operator.separator))
            }
            (Value::List(list), _) => Some(by_name(list.iter().map(|text| encode(text)).collect::<Vec<_>>().join(","))),
            (Value::Pairs(pairs), _) if explode => {
                let pair = |(name, value): &(String, String)| match operator.named {
                    true => named(&encode(name), &encode(value)),
                    false => format!("{}={}", encode(name), encode(value)),
                };
                Some(pairs.iter().map(pair).collect::<Vec<_>>().join(operator.separator))
            }
            (Value::Pairs(pairs), _) => {
                let flat = pairs.iter().flat_map(|(name, value)| [encode(name), encode(value)]);
                Some(by_name(flat.collect::<Vec<_>>().join(",")))
            }
        })
    }

    fn encode(text: &str, reserved: bool) -> String {
        let mut out = String::new();
        for (at, c) in text.char_indices() {
            let plain = c.is_ascii_alphanumeric() || "-._~".contains(c);
            let triplet = || c == '%' && text[at..].bytes().skip(1).take(2).filter(u8::is_ascii_hexdigit).count() == 2;
            if plain || reserved && (":/?#[]@!$&'()*+,;=".contains(c) || triplet()) {
                out.push(c);
            } else {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| write!(out, "%{byte:02X}").unwrap());
            }
        }
        out
    }

    /// [RFC 6570 §3.2]
    fn values_of_the_standard() -> Values {
        let text = |text: &str| Value::Text(text.to_owned());
        let list = |texts: &[&str]| Value::List(texts.iter().map(|&text| text.to_owned()).collect());
        let keys = [("semi", ";"), ("dot", "."), ("comma", ",")];
        let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
        HashMap::from([
            ("dom", list(&["example", "com"])),
            ("hello", text("Hello World!")),
            ("half", text("50%")),
            ("var", text("value")),
            ("who", text("fred")),
            ("base", text("http://example.com/home/")),
            ("path", text("/foo/bar")),
            ("list", list(&["red", "green", "blue"])),
            ("keys", Value::Pairs(keys.to_vec())),
            ("v", text("6")),
            ("x", text("1024")),
            ("y", text("768")),
            ("empty", text("")),
            ("empty_keys", Value::Pairs(vec![])),
            ("undef", Value::Undefined),
            ("bar", Value::Undefined),
        ])
    }

    /// Of the RFC's own examples. [RFC 6570 §3.2]
    const EXPANSIONS: [(&str, &str); 46] = [
        ("{var}", "value"),
        ("{hello}", "Hello%20World%21"),
        ("{half}", "50%25"),
        ("O{empty}X", "OX"),
        ("{x,hello,y}", "1024,Hello%20World%21,768"),
        ("?{x,empty}", "?1024,"),
        ("{var:10}", "value"),
        ("{list*}", "red,green,blue"),
        ("{keys}", "semi,%3B,dot,.,comma,%2C"),
        ("{keys*}", "semi=%3B,dot=.,comma=%2C"),
        ("{+hello}", "Hello%20World!"),
        ("{base}index", "http%3A%2F%2Fexample.com%2Fhome%2Findex"),
        ("{+base}index", "http://example.com/home/index"),
        ("here?ref={+path}", "here?ref=/foo/bar"),
        ("up{+path}{var}/here", "up/foo/barvalue/here"),
        ("{+path,x}/here", "/foo/bar,1024/here"),
        ("{+path:6}here", "/foo/bhere"),
        ("{+keys*}", "semi=;,dot=.,comma=,"),
        ("{#hello}", "#Hello%20World!"),
        ("foo{#empty}", "foo#"),
        ("foo{#undef}", "foo"),
        ("{#path,x}/here", "#/foo/bar,1024/here"),
        ("{#path:6}here", "#/foo/bhere"),
        ("X{.empty}", "X."),
        ("www{.dom*}", "www.example.com"),
        ("X{.list*}", "X.red.green.blue"),
        ("X{.empty_keys}", "X"),
        ("X{.keys*}", "X.semi=%3B.dot=..comma=%2C"),
        ("X{.var:3}", "X.val"),
        ("{/half,who}", "/50%25/fred"),
        ("{/var,empty}", "/value/"),
        ("{/var:1,var}", "/v/value"),
        ("{/list*,path:4}", "/red/green/blue/%2Ffoo"),
        ("{/keys*}", "/semi=%3B/dot=./comma=%2C"),
        ("{;v,empty,who}", ";v=6;empty;who=fred"),
        ("{;v,bar,who}", ";v=6;who=fred"),
        ("{;hello:5}", ";hello=Hello"),
        ("{;list*}", ";list=red;list=green;list=blue"),
        ("{;keys*}", ";semi=%3B;dot=.;comma=%2C"),
        ("{?x,y,empty}", "?x=1024&y=768&empty="),
        ("{?x,y,undef}", "?x=1024&y=768"),
        ("{?list*}", "?list=red&list=green&list=blue"),
        ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
        ("{&var:3}", "&var=val"),
        ("{&list}", "&list=red,green,blue"),
        ("{&keys*}", "&semi=%3B&dot=.&comma=%2C"),
    ];

    #[test]
    fn what_the_standard_expands_is_taken() {
        let values = values_of_the_standard();
        for (text, expansion) in EXPANSIONS {
            assert!(template(text).takes(expansion), "{text} {expansion}");
            assert_eq!(expand(text, &values).as_deref(), Some(expansion), "what the test expands by is right");
        }
        for (text, topic) in [
            ("https://example.com/books/{id}", "https://example.com/books/1"),
            (
                "https://example.com/users/1/{?topic}",
                "https://example.com/users/1/?topic=https%3A%2F%2Fexample.com%2Fb",
            ),
            (
                "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
                "/.well-known/mercure/subscriptions/a/urn%3Auuid%3A1",
            ),
            ("/.well-known/mercure/subscriptions{/topic}{/subscriber}", "/.well-known/mercure/subscriptions"),
            ("/é/{x}", "/é/1"),
            ("/é/{x}", "/%c3%A9/1"),
            ("/%2f{x}", "/%2F1"),
            ("{x:3}", "%C3%A9%E2%82%AC%F0%9F%8E%89"),
        ] {
            assert!(template(text).takes(topic), "{text} {topic}");
        }
    }

    #[test]
    fn what_no_values_lead_to_is_not_taken() {
        for (text, topic) in [
            ("https://example.com/books/{id}", "https://example.com/books/1/2"),
            ("https://example.com/books/{id}", "https://example.com/books/1?x"),
            ("https://example.com/books/{id}", "https://example.com/books"),
            ("https://example.com/books/{id}", "https://example.com/books/é"),
            ("https://example.com/books/{id}", "https://example.com/books/{id}"),
            ("https://example.com/books/{id}", "https://evil.example/?https://example.com/books/1"),
            ("https://example.com/books/{id}.json", "https://example.com/books/1xjson"),
            ("{id}", "a%2"),
            ("{id}", "a b"),
            ("{+id}", "a b"),
            ("/a{/b}", "/a/b/c"),
            ("/a{/b}", "/ab"),
            ("/a{/b,c}", "/a/b/c/d"),
            ("{?x}", "?y=1"),
            ("{?x}", "?x"),
            ("{?x,y}", "?y=1&x=2"),
            ("{?x,y}", "?x=1&x=2"),
            ("{?x,y}", "?x=1?y=2"),
            ("{?x}", "?x=1&y=2"),
            ("{&x}", "?x=1"),
            ("{;x}", ";y"),
            ("{#x}", "x"),
            ("X{.x}", "Xx"),
            ("{x:3}", "abcd"),
            ("{x:3}", "%C3%A9%C3%A9%C3%A9%C3%A9"),
            ("{x:1}", "a,b"),
        ] {
            assert!(!template(text).takes(topic), "{text} {topic}");
        }
    }

    #[test]
    fn a_text_that_is_no_template_is_only_itself() {
        for text in [
            "a",
            "%41",
            "a{b",
            "{",
            "}",
            "a}b{c}",
            "{}",
            "{,}",
            "{a,}",
            "{=a}",
            "{!a}",
            "{|a}",
            "{a:}",
            "{a:0}",
            "{a:03}",
            "{a:10000}",
            "{a:-1}",
            "{a b}",
            "a b{c}",
            "{a:3*}",
            "{a*:3}",
            "%{a}",
            "%2{a}",
            "{a%2}",
            "{.}",
            "{a..b}",
            "{a-b}",
            "{ä}",
            "{{a}}",
            "a\\{b}",
        ] {
            assert!(Template::new(text).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        for text in ["{a:9999}", "{a:40}", "{?a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t}", &"{a}/".repeat(200)] {
            assert_eq!(Template::new(text).unwrap_err(), PatternError::Template, "{text}");
        }
        // What people write fits.
        for text in [
            "https://example.com/{kind}/{id}{/part}{?page,order,filter}{#fragment}",
            "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
            "{?a,b,c,d,e,f,g,h}",
            "{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}",
            "{a:3}",
        ] {
            template(text);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = || prop_oneof!["[a-z]{0,3}", "[ -~]{0,5}", ".{0,4}"];
        prop_oneof![
            1 => Just(Value::Undefined),
            4 => text().prop_map(Value::Text),
            2 => vec(text(), 0..3).prop_map(Value::List),
            2 => vec((text(), text()), 0..3).prop_map(Value::Pairs),
        ]
    }

    fn expression() -> impl Strategy<Value = String> {
        let operator = select(vec!["", "+", "#", ".", "/", ";", "?", "&"]);
        let name = select(vec!["a", "b", "c", "x.y", "%41_1"]);
        let variable =
            (name, select(vec!["", "", "", "*", ":1", ":3"])).prop_map(|(name, modifier)| format!("{name}{modifier}"));
        (operator, vec(variable, 1..4))
            .prop_map(|(operator, variables)| format!("{{{operator}{}}}", variables.join(",")))
    }

    fn part() -> impl Strategy<Value = String> {
        let literal = select(vec!["/", "https://e.example/", "é", "%2f", "a=b&c", "[x]", ".", "+(", "$"]);
        prop_oneof![2 => expression(), 1 => literal.prop_map(str::to_owned)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// Whatever the values.
        #[test]
        fn what_a_template_expands_to_is_taken(parts in vec(part(), 1..4), values in vec(value(), 5)) {
            let text = parts.concat();
            let values = ["a", "b", "c", "x.y", "%41_1"].into_iter().zip(values).collect();
            let Some(expansion) = expand(&text, &values) else { return Ok(()) };
            match Template::new(&text) {
                Ok(Some(template)) => prop_assert!(template.takes(&expansion), "{text} {expansion}"),
                Ok(None) => prop_assert_eq!(text.contains('{'), false),
                Err(error) => prop_assert_eq!(error, PatternError::Template),
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in r"[{}a/:*,.?&;+#%2é-]{0,40}", topic in r"[a/:*,.?&;=+#%2éA-]{0,40}") {
            if let Ok(Some(template)) = Template::new(&text) {
                template.takes(&topic);
            }
        }
    }

    /// `cargo test --release -p fanwire-protocol template -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn what_a_template_costs() {
        let nanoseconds = |times: u32, act: &mut dyn FnMut()| {
            let began = Instant::now();
            (0..times).for_each(|_| act());
            began.elapsed().as_nanos() / u128::from(times)
        };
        let (short, long) = ("https://example.com/books/1", format!("https://example.com/books/{}", "%C3".repeat(320)));
        for text in [
            "https://example.com/books/{id}",
            "https://example.com/{kind}/{id}{/part}{?page,order,filter}{#fragment}",
            "{+a}{b}{+c}{d}",
            "{a:3}{b:2}{c}",
        ] {
            let compiling = nanoseconds(200, &mut || drop(Template::new(text)));
            let template = template(text);
            let takes = |topic: &str| {
                nanoseconds(20_000, &mut || {
                    std::hint::black_box(template.takes(topic));
                })
            };
            println!(
                "{text}: compiled in {compiling} ns; {} ns for {short}, {} ns for a long one, {} ns for one that begins otherwise",
                takes(short),
                takes(&long),
                takes("orders/42")
            );
        }
    }
}
