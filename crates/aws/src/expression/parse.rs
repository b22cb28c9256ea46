//! From text to a tree.

/// Expressions stand in a manifest: longer or deeper ones are mistakes.
const LENGTH_MAX: usize = 1024;
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Int(i64),
    Double(f64),
    Text(String),
    Bool(bool),
    Variable(Variable),
    List(Vec<Node>),
    Minus(Box<Node>),
    Not(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Choose(Box<[Node; 3]>),
    Call(Function, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Vcpus,
    MemoryMib,
    DefaultEnis,
    IpsPerEni,
    MaxPods,
    InstanceType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Min,
    Max,
    Int,
    Double,
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    LessEqual,
    GreaterEqual,
    Less,
    Greater,
    In,
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
}

/// Operators as they are written, each with how tightly it binds; longer signs first.
const OPERATORS: [(&str, Operator, u8); 14] = [
    ("||", Operator::Or, 1),
    ("&&", Operator::And, 2),
    ("==", Operator::Equal, 3),
    ("!=", Operator::Unequal, 3),
    ("<=", Operator::LessEqual, 3),
    (">=", Operator::GreaterEqual, 3),
    ("<", Operator::Less, 3),
    (">", Operator::Greater, 3),
    ("in", Operator::In, 3),
    ("+", Operator::Plus, 4),
    ("-", Operator::Minus, 4),
    ("*", Operator::Times, 5),
    ("/", Operator::Over, 5),
    ("%", Operator::Modulo, 5),
];
const SIGNS: [&str; 20] =
    ["||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[", "]"];

impl Operator {
    pub(super) fn sign(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator, _)| *operator == self).map_or("", |(sign, ..)| *sign)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Int(i64),
    Double(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(figure) => write!(f, "\"{figure}\""),
            Self::Double(figure) => write!(f, "\"{figure}\""),
            Self::Text(text) | Self::Name(text) => write!(f, "{text:?}"),
            Self::Sign(sign) => write!(f, "{sign:?}"),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("found {} bytes, which is too long: expected at most {LENGTH_MAX}", text.len()));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let node = parser.expression()?;
    match parser.peek() {
        None => Ok(node),
        Some(rest) => Err(format!("found {rest}, expected an operator or the end")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Name(rest[..length].to_owned()), length)
        } else if first == '\'' || first == '"' {
            let inner = rest.get(1..).and_then(|inner| inner.split_once(first));
            let (inner, _) = inner.ok_or_else(|| format!("found {rest:?}, expected a closing quote"))?;
            (Token::Text(inner.to_owned()), inner.len() + 2)
        } else if first == '.' {
            (Token::Sign("."), 1)
        } else if first == ',' {
            (Token::Sign(","), 1)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("found \"{first}\", expected a number, a name or an operator"))?;
            (Token::Sign(sign), sign.len())
        };
        all.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(all)
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let mut length = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    if text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        let digits = &text[length + 1 + sign..];
        length += 1 + sign + digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    }
    let digits = &text[..length];
    let wrong = || format!("found {digits:?}, expected a number of 64 bits");
    let token = if digits.contains(['.', 'e', 'E']) {
        Token::Double(digits.parse().map_err(|_| wrong())?)
    } else {
        Token::Int(digits.parse().map_err(|_| wrong())?)
    };
    Ok((token, length))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self, expected: &str) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| format!("found the end, expected {expected}"))
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(known)) if *known == sign);
        self.at += usize::from(found);
        found
    }

    fn must(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) {
            return Ok(());
        }
        let found = self.peek().map_or_else(|| "the end".to_owned(), ToString::to_string);
        Err(format!("found {found}, expected {sign:?}"))
    }

    /// `a ? b : c`, or anything that binds more tightly.
    fn expression(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("found an expression that is too deep: expected at most {DEPTH_MAX} levels"));
        }
        let condition = self.binary(1)?;
        let node = if self.takes("?") {
            let one = self.expression()?;
            self.must(":")?;
            let other = self.expression()?;
            Node::Choose(Box::new([condition, one, other]))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    /// Operators that bind at least so tightly; equals are taken from the left.
    fn binary(&mut self, least: u8) -> Result<Node, String> {
        let mut left = self.unary()?;
        while let Some((operator, binds)) = self.operator().filter(|(_, binds)| *binds >= least) {
            self.at += 1;
            let right = self.binary(binds + 1)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        let word = match self.peek()? {
            Token::Sign(sign) => *sign,
            Token::Name(name) => name.as_str(),
            _ => return None,
        };
        OPERATORS.iter().find(|(sign, ..)| *sign == word).map(|(_, operator, binds)| (*operator, *binds))
    }

    fn unary(&mut self) -> Result<Node, String> {
        let (mut minus, mut not) = (0, 0);
        while minus + not < DEPTH_MAX {
            if self.takes("-") {
                minus += 1;
            } else if self.takes("!") {
                not += 1;
            } else {
                break;
            }
        }
        if minus > 0 && not > 0 {
            return Err("found both \"-\" and \"!\", expected one of them".to_owned());
        }
        let mut node = self.member()?;
        for _ in 0..minus {
            node = Node::Minus(Box::new(node));
        }
        for _ in 0..not {
            node = Node::Not(Box::new(node));
        }
        Ok(node)
    }

    /// A value, and functions called on it.
    fn member(&mut self) -> Result<Node, String> {
        let mut node = self.primary()?;
        while self.takes(".") {
            let Token::Name(name) = self.next("a function")? else {
                return Err("found no name behind \".\", expected a function".to_owned());
            };
            self.must("(")?;
            let mut arguments = vec![node];
            arguments.extend(self.list(")")?);
            node = call(&name, arguments)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, String> {
        match self.next("a number, a name or \"(\"")? {
            Token::Int(figure) => Ok(Node::Int(figure)),
            Token::Double(figure) => Ok(Node::Double(figure)),
            Token::Text(text) => Ok(Node::Text(text)),
            Token::Name(name) if self.takes("(") => call(&name, self.list(")")?),
            Token::Name(name) => variable(&name),
            Token::Sign("(") => {
                let node = self.expression()?;
                self.must(")")?;
                Ok(node)
            }
            Token::Sign("[") => Ok(Node::List(self.list("]")?)),
            Token::Sign(sign) => Err(format!("found {sign:?}, expected a number, a name or \"(\"")),
        }
    }

    /// Expressions with commas between them, up to a sign.
    fn list(&mut self, end: &str) -> Result<Vec<Node>, String> {
        let mut all = Vec::new();
        if self.takes(end) {
            return Ok(all);
        }
        loop {
            all.push(self.expression()?);
            if self.takes(end) {
                return Ok(all);
            }
            self.must(",")?;
        }
    }
}

fn variable(name: &str) -> Result<Node, String> {
    Ok(Node::Variable(match name {
        "true" => return Ok(Node::Bool(true)),
        "false" => return Ok(Node::Bool(false)),
        "vcpus" => Variable::Vcpus,
        "memory_mib" => Variable::MemoryMib,
        "default_enis" => Variable::DefaultEnis,
        "ips_per_eni" => Variable::IpsPerEni,
        "max_pods" => Variable::MaxPods,
        "instance_type" => Variable::InstanceType,
        _ => {
            let known = "vcpus, memory_mib, default_enis, ips_per_eni, max_pods, instance_type";
            return Err(format!("found the name {name:?}, expected one of {known}"));
        }
    }))
}

fn call(name: &str, arguments: Vec<Node>) -> Result<Node, String> {
    let (function, count) = match name {
        "min" => (Function::Min, 2),
        "max" => (Function::Max, 2),
        "int" => (Function::Int, 1),
        "double" => (Function::Double, 1),
        "startsWith" => (Function::StartsWith, 2),
        "endsWith" => (Function::EndsWith, 2),
        "contains" => (Function::Contains, 2),
        _ => {
            let known = "min, max, int, double, startsWith, endsWith, contains";
            return Err(format!("found the function {name:?}, expected one of {known}"));
        }
    };
    if arguments.len() != count {
        return Err(format!("{name}: found {} arguments, expected {count} arguments", arguments.len()));
    }
    Ok(Node::Call(function, arguments))
}
