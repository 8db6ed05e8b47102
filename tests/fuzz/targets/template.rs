//! URI templates, read and expanded by the words of [RFC 6570], slowly.

use crate::input::Choices;

pub(crate) struct Template<'a>(Vec<Part<'a>>);

enum Part<'a> {
    Literal(&'a str),
    Expression { operator: char, variables: Vec<Variable<'a>> },
}

struct Variable<'a> {
    name: &'a str,
    explode: bool,
    prefix: Option<usize>,
}

/// [RFC 6570 §2.3] What isn't defined is none.
enum Value {
    Text(&'static str),
    List(&'static [&'static str]),
    Pairs(&'static [(&'static str, &'static str)]),
}

impl<'a> Template<'a> {
    /// None for a text whose braces or variables aren't those of a template. [RFC 6570 §2]
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let mut parts = vec![];
        let mut pieces = text.split('{');
        parts.extend(pieces.next().map(Part::Literal));
        for piece in pieces {
            let (inside, literal) = piece.split_once('}')?;
            let operator = inside.chars().next().filter(|first| "+#./;?&".contains(*first));
            let list = &inside[operator.map_or(0, char::len_utf8)..];
            let variables = list.split(',').map(Variable::of).collect::<Option<_>>()?;
            parts.push(Part::Expression { operator: operator.unwrap_or(' '), variables });
            parts.push(Part::Literal(literal));
        }
        let illegal = |c: char| c <= ' ' || "\"'<>\\^`{|}\u{7f}".contains(c);
        let legal = |part: &Part<'_>| match part {
            Part::Literal(text) => !text.contains(illegal) && has_whole_triplets(text),
            Part::Expression { .. } => true,
        };
        parts.iter().all(legal).then_some(Self(parts))
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Whether it may be expanded to more slashes than are in its literals.
    pub(crate) fn lets_slashes_through(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Expression { operator: '+' | '#' | '/', .. }))
    }

    /// With values by chance. [RFC 6570 §3]
    pub(crate) fn expand(&self, choices: &mut Choices) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                // Topics are written with all of their characters, or with those alone that a URI may hold.
                Part::Literal(text) if choices.bool() => out.push_str(text),
                Part::Literal(text) => out.push_str(&encoded(text, true)),
                Part::Expression { operator, variables } => expand(*operator, variables, choices, &mut out),
            }
        }
        out
    }
}

impl<'a> Variable<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (name, explode, prefix) = match (text.strip_suffix('*'), text.split_once(':')) {
            (Some(name), _) => (name, true, None),
            (None, Some((name, length))) => {
                let digits = (1..=4).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
                (name, false, Some(length.parse().ok().filter(|_| digits && !length.starts_with('0'))?))
            }
            (None, None) => (text, false, None),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '%' || c == '.';
        let dots = name.is_empty() || name.starts_with('.') || name.ends_with('.') || name.contains("..");
        (name.chars().all(legal) && !dots && has_whole_triplets(name)).then_some(Self { name, explode, prefix })
    }
}

/// [RFC 6570 §3.2.1]
fn expand(operator: char, variables: &[Variable<'_>], choices: &mut Choices, out: &mut String) {
    // [RFC 6570, Appendix A]
    let (first, separator, named, if_empty, reserved) = match operator {
        '+' => ("", ",", false, "", true),
        '#' => ("#", ",", false, "", true),
        '.' => (".", ".", false, "", false),
        '/' => ("/", "/", false, "", false),
        ';' => (";", ";", true, "", false),
        '?' => ("?", "&", true, "=", false),
        '&' => ("&", "&", true, "=", false),
        _ => ("", ",", false, "", false),
    };
    let with_name = |name: &str, value: &str| match (named, value) {
        (false, value) => value.to_owned(),
        (true, "") => format!("{name}{if_empty}"),
        (true, value) => format!("{name}={value}"),
    };
    let mut before = first;
    for variable in variables {
        let value = VALUES.get(choices.among(0..=VALUES.len()));
        let value = match value {
            // Nothing says what the first characters of a list are.
            Some(Value::List(_) | Value::Pairs(_)) if variable.prefix.is_some() => Some(&VALUES[0]),
            value => value,
        };
        let text = match value {
            None | Some(Value::List([]) | Value::Pairs([])) => continue,
            Some(Value::Text(text)) => {
                let text: String = text.chars().take(variable.prefix.unwrap_or(usize::MAX)).collect();
                with_name(variable.name, &encoded(&text, reserved))
            }
            Some(Value::List(list)) => {
                let items = list.iter().map(|item| encoded(item, reserved));
                if variable.explode {
                    items.map(|item| with_name(variable.name, &item)).collect::<Vec<_>>().join(separator)
                } else {
                    with_name(variable.name, &items.collect::<Vec<_>>().join(","))
                }
            }
            Some(Value::Pairs(pairs)) => {
                let pairs = pairs.iter().map(|(name, value)| (encoded(name, reserved), encoded(value, reserved)));
                if variable.explode {
                    let pairs = pairs.map(|(name, value)| match (named, &*value) {
                        (true, "") => format!("{name}{if_empty}"),
                        _ => format!("{name}={value}"),
                    });
                    pairs.collect::<Vec<_>>().join(separator)
                } else {
                    let pairs = pairs.map(|(name, value)| format!("{name},{value}"));
                    with_name(variable.name, &pairs.collect::<Vec<_>>().join(","))
                }
            }
        };
        out.push_str(before);
        out.push_str(&text);
        before = separator;
    }
}

/// [RFC 6570 §3.1, §3.2.1] Where reserved characters stay, encoded ones do, too.
fn encoded(text: &str, reserved: bool) -> String {
    let mut out = String::new();
    for (at, c) in text.char_indices() {
        let triplet = c == '%' && has_whole_triplets(text[at..].get(..3).unwrap_or("%"));
        let plain = c.is_ascii_alphanumeric() || "-._~".contains(c);
        if plain || reserved && (triplet || ":/?#[]@!$&'()*+,;=".contains(c)) {
            out.push(c);
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        }
    }
    out
}

/// Whether two hex digits are behind each `%`.
fn has_whole_triplets(text: &str) -> bool {
    let digits =
        |at: usize| text.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    text.match_indices('%').all(|(at, _)| digits(at))
}

const VALUES: [Value; 10] = [
    Value::Text("x"),
    Value::Text(""),
    Value::Text("a/b?c#d"),
    Value::Text("h\u{e9}llo \u{1f600}"),
    Value::Text("50%, *"),
    Value::Text("0123456789012345"),
    Value::List(&["red", "gr een", ""]),
    Value::List(&[]),
    Value::Pairs(&[("k", "v,w"), ("a b", "")]),
    Value::Pairs(&[("semi", ";")]),
];
