//! Kinds of values, and what a tree comes to. Kinds are checked once; then only figures can be wrong.

use std::cmp::Ordering;
use std::fmt;

use super::Machine;
use super::parse::{Function, Node, Operator, Variable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Double,
    Text,
    Bool,
    List,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "text",
            Self::Bool => "true or false",
            Self::List => "a list",
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i64),
    Double(f64),
    Text(String),
    Bool(bool),
}

/// What kind of value a tree comes to, if its operators and functions are for the kinds they are given.
pub(super) fn kind(node: &Node) -> Result<Kind, String> {
    let number = |kind: Kind| matches!(kind, Kind::Int | Kind::Double);
    match node {
        Node::Double(_) => Ok(Kind::Double),
        Node::Text(_) | Node::Variable(Variable::InstanceType) => Ok(Kind::Text),
        Node::Bool(_) => Ok(Kind::Bool),
        Node::Int(_) | Node::Variable(_) => Ok(Kind::Int),
        Node::List(items) => items.iter().try_for_each(|item| kind(item).map(drop)).map(|()| Kind::List),
        Node::Minus(of) => match kind(of)? {
            of if number(of) => Ok(of),
            other => Err(format!("found \"-\" before {other}, expected a number behind it")),
        },
        Node::Not(of) => match kind(of)? {
            Kind::Bool => Ok(Kind::Bool),
            other => Err(format!("found \"!\" before {other}, expected true or false behind it")),
        },
        Node::Binary(Operator::In, item, list) => among(kind(item)?, list),
        Node::Binary(operator, left, right) => binary(*operator, kind(left)?, kind(right)?),
        Node::Choose(parts) => {
            let [condition, one, other] = parts.as_ref();
            match (kind(condition)?, kind(one)?, kind(other)?) {
                (Kind::Bool, one, other) if one == other => Ok(one),
                (Kind::Bool, one, other) => {
                    Err(format!("found {one} and {other}, expected the same on both sides of \":\""))
                }
                (found, ..) => Err(format!("found {found} before \"?\", expected a condition")),
            }
        }
        Node::Call(function, arguments) => {
            let kinds = arguments.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
            match (function, kinds.as_slice()) {
                (Function::Min | Function::Max, [Kind::Int, Kind::Int]) => Ok(Kind::Int),
                (Function::Min | Function::Max, [a, b]) if number(*a) && number(*b) => Ok(Kind::Double),
                (Function::Int, [of]) if number(*of) => Ok(Kind::Int),
                (Function::Double, [of]) if number(*of) => Ok(Kind::Double),
                (Function::StartsWith | Function::EndsWith | Function::Contains, [Kind::Text, Kind::Text]) => {
                    Ok(Kind::Bool)
                }
                _ => Err(format!("found {function:?} of {kinds:?}, expected numbers, or text for text")),
            }
        }
    }
}

fn among(item: Kind, list: &Node) -> Result<Kind, String> {
    let Node::List(items) = list else {
        return Err("found no list behind \"in\", expected one such as [1, 2]".to_owned());
    };
    for other in items {
        let other = kind(other)?;
        if other != item {
            return Err(format!("found {other} in the list, expected {item}"));
        }
    }
    Ok(Kind::Bool)
}

fn binary(operator: Operator, left: Kind, right: Kind) -> Result<Kind, String> {
    match (operator, left, right) {
        (Operator::And | Operator::Or, Kind::Bool, Kind::Bool) => Ok(Kind::Bool),
        (Operator::Equal | Operator::Unequal, ..) if left == right && left != Kind::List => Ok(Kind::Bool),
        (Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual, ..)
            if left == right && matches!(left, Kind::Int | Kind::Double | Kind::Text) =>
        {
            Ok(Kind::Bool)
        }
        (
            Operator::Plus | Operator::Minus | Operator::Times | Operator::Over | Operator::Modulo,
            Kind::Int,
            Kind::Int,
        ) => Ok(Kind::Int),
        (Operator::Plus | Operator::Minus | Operator::Times | Operator::Over, Kind::Double, Kind::Double) => {
            Ok(Kind::Double)
        }
        _ => Err(format!(
            "found {left} {} {right}, expected the same kind on both sides (double(…) and int(…) convert)",
            operator.sign()
        )),
    }
}

pub(super) fn eval(node: &Node, machine: &Machine<'_>) -> Result<Value, String> {
    Ok(match node {
        Node::Int(figure) => Value::Int(*figure),
        Node::Double(figure) => Value::Double(*figure),
        Node::Text(text) => Value::Text(text.clone()),
        Node::Bool(truth) => Value::Bool(*truth),
        Node::Variable(variable) => match variable {
            Variable::Vcpus => Value::Int(machine.vcpus),
            Variable::MemoryMib => Value::Int(machine.memory_mib),
            Variable::DefaultEnis => Value::Int(machine.default_enis),
            Variable::IpsPerEni => Value::Int(machine.ips_per_eni),
            Variable::MaxPods => Value::Int(machine.max_pods),
            Variable::InstanceType => Value::Text(machine.instance_type.to_owned()),
        },
        Node::List(_) => return Err("found a list, expected a value".to_owned()),
        Node::Minus(of) => match eval(of, machine)? {
            Value::Int(figure) => Value::Int(figure.checked_neg().ok_or("the result is too large")?),
            Value::Double(figure) => Value::Double(-figure),
            other => return Err(format!("found {other:?}, expected a number")),
        },
        Node::Not(of) => Value::Bool(!truth(of, machine)?),
        Node::Binary(Operator::And, left, right) => Value::Bool(truth(left, machine)? && truth(right, machine)?),
        Node::Binary(Operator::Or, left, right) => Value::Bool(truth(left, machine)? || truth(right, machine)?),
        Node::Binary(Operator::In, item, list) => {
            let item = eval(item, machine)?;
            let Node::List(items) = list.as_ref() else {
                return Err("found no list, expected one".to_owned());
            };
            let mut found = false;
            for other in items {
                found |= eval(other, machine)? == item;
            }
            Value::Bool(found)
        }
        Node::Binary(operator, left, right) => operate(*operator, eval(left, machine)?, eval(right, machine)?)?,
        Node::Choose(parts) => {
            let [condition, one, other] = parts.as_ref();
            eval(if truth(condition, machine)? { one } else { other }, machine)?
        }
        Node::Call(function, arguments) => {
            let values = arguments.iter().map(|argument| eval(argument, machine)).collect::<Result<Vec<_>, _>>()?;
            apply(*function, &values)?
        }
    })
}

fn truth(node: &Node, machine: &Machine<'_>) -> Result<bool, String> {
    match eval(node, machine)? {
        Value::Bool(truth) => Ok(truth),
        other => Err(format!("found {other:?}, expected true or false")),
    }
}

fn operate(operator: Operator, left: Value, right: Value) -> Result<Value, String> {
    if let Some(order) = compare(&left, &right) {
        let holds = match operator {
            Operator::Equal => Some(order.is_eq()),
            Operator::Unequal => Some(order.is_ne()),
            Operator::Less => Some(order.is_lt()),
            Operator::LessEqual => Some(order.is_le()),
            Operator::Greater => Some(order.is_gt()),
            Operator::GreaterEqual => Some(order.is_ge()),
            _ => None,
        };
        if let Some(holds) = holds {
            return Ok(Value::Bool(holds));
        }
    }
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => {
            let result = match operator {
                Operator::Plus => a.checked_add(b),
                Operator::Minus => a.checked_sub(b),
                Operator::Times => a.checked_mul(b),
                Operator::Over | Operator::Modulo if b == 0 => return Err("division by zero".to_owned()),
                Operator::Over => a.checked_div(b),
                Operator::Modulo => a.checked_rem(b),
                _ => None,
            };
            result.map(Value::Int).ok_or_else(|| "the result is too large".to_owned())
        }
        (Value::Double(a), Value::Double(b)) => Ok(match operator {
            Operator::Plus => Value::Double(a + b),
            Operator::Minus => Value::Double(a - b),
            Operator::Times => Value::Double(a * b),
            Operator::Over => Value::Double(a / b),
            // Not a number is neither less nor equal.
            _ => Value::Bool(operator == Operator::Unequal),
        }),
        (left, right) => Err(format!("found {left:?} {} {right:?}, expected numbers", operator.sign())),
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn apply(function: Function, values: &[Value]) -> Result<Value, String> {
    Ok(match (function, values) {
        (Function::Min, [Value::Int(a), Value::Int(b)]) => Value::Int(*a.min(b)),
        (Function::Max, [Value::Int(a), Value::Int(b)]) => Value::Int(*a.max(b)),
        (Function::Min, [a, b]) => Value::Double(double(a)?.min(double(b)?)),
        (Function::Max, [a, b]) => Value::Double(double(a)?.max(double(b)?)),
        (Function::Double, [of]) => Value::Double(double(of)?),
        (Function::Int, [Value::Int(figure)]) => Value::Int(*figure),
        (Function::Int, [Value::Double(figure)]) if figure.abs() < 9e18 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "smaller than 2^63")]
            Value::Int(*figure as i64)
        }
        (Function::StartsWith, [Value::Text(text), Value::Text(part)]) => Value::Bool(text.starts_with(part)),
        (Function::EndsWith, [Value::Text(text), Value::Text(part)]) => Value::Bool(text.ends_with(part)),
        (Function::Contains, [Value::Text(text), Value::Text(part)]) => Value::Bool(text.contains(part)),
        _ => return Err(format!("found {function:?} of {values:?}, expected figures in the range of 64 bits")),
    })
}

fn double(value: &Value) -> Result<f64, String> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "as CEL converts")]
        Value::Int(figure) => Ok(*figure as f64),
        Value::Double(figure) => Ok(*figure),
        other => Err(format!("found {other:?}, expected a number")),
    }
}
