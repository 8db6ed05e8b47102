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
mod tests;
