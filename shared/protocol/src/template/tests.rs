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
    ("{var:5}", "value"),
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
        ("https://example.com/users/1/{?topic}", "https://example.com/users/1/?topic=https%3A%2F%2Fexample.com%2Fb"),
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
    for text in ["{a:9999}", "{a:12}", "{?a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t}", &"{a}/".repeat(200)] {
        assert_eq!(Template::new(text).unwrap_err(), PatternError::Template, "{text}");
    }
    // What people write fits.
    for text in [
        "https://example.com/{kind}/{id}{/part}{?page,order,filter}{#fragment}",
        "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
        "{?a,b,c,d,e,f}",
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
    (operator, vec(variable, 1..4)).prop_map(|(operator, variables)| format!("{{{operator}{}}}", variables.join(",")))
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
    // Where a value may begin at each of them, and may have ended at each.
    let letters = (0..1_024).scan(1_u32, |state, _| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(if *state >> 31 == 0 { 'x' } else { 'a' })
    });
    let crafted: String = letters.collect();
    for text in [
        "https://example.com/books/{id}",
        "https://example.com/{kind}/{id}{/part}{?page,order,filter}{#fragment}",
        "{+a}{b}{+c}{d}",
        "{a:3}{b:2}{c}",
        "{+a}x{+b:6}",
        "{+a}x{b:6}",
        "{+a}x{b:3}x{+c:3}",
        "{?first,second,third,fourth,fifth,sixth}",
    ] {
        let compiling = nanoseconds(200, &mut || drop(Template::new(text)));
        let template = template(text);
        let takes = |topic: &str| {
            nanoseconds(2_000, &mut || {
                std::hint::black_box(template.takes(topic));
            })
        };
        println!(
            "{text}: compiled in {compiling} ns; {} ns for {short}, {} ns for a long one, {} ns for one that begins otherwise, {} ns for a crafted one",
            takes(short),
            takes(&long),
            takes("orders/42"),
            takes(&crafted)
        );
    }
}
