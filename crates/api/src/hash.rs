//! Hashes of templates, from which static drift is told.
//!
//! They equal the ones Karpenter 1.14 writes, so that nodes it launched do not look drifted. The
//! scheme (mitchellh/hashstructure, format 2, with slices as sets, zero values left out): FNV-1 of
//! 64 bit; a struct is its type name XOR every (name, value) pair, hashed once more; an ordered
//! pair is the hash of both halves' little-endian bytes; a list is the XOR of its items.

use std::collections::BTreeMap;

use crate::nodepool::NodePool;
use crate::{Ec2NodeClass, Taint};

pub const NODEPOOL_HASH_VERSION: &str = "v3";
pub const EC2_NODE_CLASS_HASH_VERSION: &str = "v6";

/// A value as the scheme sees it; `None` from a constructor is a zero value, which is left out.
enum Node {
    Leaf(u64),
    Struct(&'static str, Vec<(&'static str, Node)>),
    Map(Vec<(String, String)>),
    Set(Vec<Node>),
}

impl Node {
    fn hash(&self) -> u64 {
        match self {
            Self::Leaf(hash) => *hash,
            Self::Struct(name, fields) => {
                let fields = fields.iter().map(|(name, value)| pair(text(name), value.hash()));
                finish(fields.fold(text(name), |all, field| all ^ field))
            }
            Self::Map(entries) => {
                finish(entries.iter().map(|(key, value)| pair(text(key), text(value))).fold(0, |all, e| all ^ e))
            }
            Self::Set(items) => items.iter().map(Self::hash).fold(0, |all, item| all ^ item),
        }
    }
}

/// Decimal hash of a NodePool's template: labels, annotations, taints, class, life times.
pub fn nodepool_hash(pool: &NodePool) -> String {
    let template = &pool.spec.template;
    let mut fields = Vec::new();
    if let Some(metadata) = &template.metadata {
        let labels = map("Labels", metadata.labels.as_ref());
        let annotations = map("Annotations", metadata.annotations.as_ref());
        let inner: Vec<_> = labels.into_iter().chain(annotations).collect();
        if !inner.is_empty() {
            fields.push(("ObjectMeta", Node::Struct("ObjectMeta", inner)));
        }
    }
    let spec = &template.spec;
    let mut inner: Vec<(&str, Node)> = Vec::new();
    inner.extend(taints("Taints", spec.taints.as_deref()));
    inner.extend(taints("StartupTaints", spec.startup_taints.as_deref()));
    let class = &spec.node_class_ref;
    let class = strings(&[("Group", &class.group), ("Kind", &class.kind), ("Name", &class.name)]);
    inner.push(("NodeClassRef", Node::Struct("NodeClassReference", class)));
    if let Some(nanoseconds) = spec.termination_grace_period.as_deref().and_then(go_duration) {
        let value = vec![("Duration", Node::Leaf(integer(nanoseconds)))];
        inner.push(("TerminationGracePeriod", Node::Struct("Duration", value)));
    }
    // "Never" is a set but empty duration, absence no duration at all.
    if let Some(expire_after) = spec.expire_after.as_deref() {
        let value = go_duration(expire_after).map(|n| ("Duration", Node::Leaf(integer(n))));
        inner.push(("ExpireAfter", Node::Struct("NillableDuration", value.into_iter().collect())));
    }
    fields.push(("Spec", Node::Struct("NodeClaimTemplateSpec", inner)));
    Node::Struct("NodeClaimTemplate", fields).hash().to_string()
}

/// Decimal hash of an EC2NodeClass's launch settings. Selectors are left out: what they resolve
/// to is compared instead. Over the canonical JSON of the fields that count; a change of scheme
/// changes the version, upon which nodes are stamped anew rather than replaced.
pub fn ec2_node_class_hash(class: &Ec2NodeClass) -> String {
    let mut spec = serde_json::to_value(&class.spec).unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        for ignored in [
            "subnetSelectorTerms",
            "securityGroupSelectorTerms",
            "capacityReservationSelectorTerms",
            "amiSelectorTerms",
            "ipPrefixCount",
        ] {
            fields.remove(ignored);
        }
    }
    text(&spec.to_string()).to_string()
}

fn map(name: &'static str, entries: Option<&BTreeMap<String, String>>) -> Option<(&'static str, Node)> {
    let entries: Vec<_> = entries.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    (!entries.is_empty()).then_some((name, Node::Map(entries)))
}

fn taints(name: &'static str, taints: Option<&[Taint]>) -> Option<(&'static str, Node)> {
    let items: Vec<Node> = taints?
        .iter()
        .map(|taint| {
            let value = taint.value.as_deref().unwrap_or_default();
            Node::Struct("Taint", strings(&[("Key", &taint.key), ("Value", value), ("Effect", &taint.effect)]))
        })
        .collect();
    // An empty but present list is not a zero value in Go.
    Some((name, Node::Set(items)))
}

fn strings(fields: &[(&'static str, &str)]) -> Vec<(&'static str, Node)> {
    fields.iter().filter(|(_, v)| !v.is_empty()).map(|(name, v)| (*name, Node::Leaf(text(v)))).collect()
}

/// Nanoseconds of a Go duration such as `1h30m`; `None` for `Never` and what is not one.
fn go_duration(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1_000_000_000,
            b'm' => 60_000_000_000,
            b'h' => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(amount.checked_mul(unit)?)?;
        rest = rest.get(digits + 1..)?;
    }
    Some(total)
}

fn fnv1(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
}

fn text(value: &str) -> u64 {
    fnv1(value.bytes())
}

fn integer(value: i64) -> u64 {
    fnv1(value.to_le_bytes())
}

fn pair(a: u64, b: u64) -> u64 {
    fnv1(a.to_le_bytes().into_iter().chain(b.to_le_bytes()))
}

fn finish(a: u64) -> u64 {
    fnv1(a.to_le_bytes())
}
