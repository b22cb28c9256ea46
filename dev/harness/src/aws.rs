//! EC2 as its API tells it, and the switches of the AWS peer.

use std::collections::BTreeMap;

use anyhow::Context;
use roxmltree::{Document, Node};
use serde_json::Value;

/// The AWS peer.
#[derive(Debug, Clone)]
pub struct Aws {
    pub endpoint: String,
    pub region: String,
}

/// An instance as DescribeInstances tells it.
#[derive(Debug, Clone)]
pub struct Instance {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    pub state: String,
    pub spot: bool,
    pub image: String,
    /// ARN of its instance profile.
    pub profile: String,
    pub security_groups: Vec<String>,
    pub tags: BTreeMap<String, String>,
}

impl Instance {
    /// Costs money, or will.
    pub fn is_alive(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "running")
    }
}

impl Aws {
    /// Every instance, by DescribeInstances.
    pub fn instances(&self) -> anyhow::Result<Vec<Instance>> {
        let body = self.ec2("DescribeInstances", &[])?;
        let document = Document::parse(&body).context("DescribeInstances")?;
        let items = document.descendants().filter(|node| node.has_tag_name_local("instancesSet"));
        Ok(items.flat_map(|set| set.children().filter(Node::is_element)).map(|item| instance(&item)).collect())
    }

    /// EC2's answer to a call, as XML.
    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("ec2", "2016-11-15", action, parameters)
    }

    /// IAM's answer to a call, as XML.
    pub fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("iam", "2010-05-08", action, parameters)
    }

    fn query(&self, service: &str, version: &str, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        let credential = format!("AWS4-HMAC-SHA256 Credential=test/20260101/{}/{service}/aws4_request", self.region);
        let fixed = [("Action", action), ("Version", version)];
        let answer = ureq::post(&self.endpoint)
            .header("Authorization", &credential)
            .send_form(fixed.into_iter().chain(parameters.iter().copied()));
        let mut answer = answer.with_context(|| format!("{action} {parameters:?}"))?;
        Ok(answer.body_mut().with_config().limit(64 << 20).read_to_string()?)
    }

    /// Those that cost money.
    pub fn alive(&self) -> anyhow::Result<Vec<Instance>> {
        Ok(self.instances()?.into_iter().filter(Instance::is_alive).collect())
    }

    /// The peer's own view, with prices: `GET /_peer/<what>`.
    pub fn peer(&self, what: &str) -> anyhow::Result<Value> {
        Ok(ureq::get(format!("{}/_peer/{what}", self.endpoint)).call()?.body_mut().read_json()?)
    }

    /// Turns one of the peer's switches: `POST /_peer/<what>`.
    pub fn tell(&self, what: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = ureq::post(format!("{}/_peer/{what}", self.endpoint)).send_json(body);
        Ok(answer.with_context(|| format!("/_peer/{what} {body}"))?.body_mut().read_json()?)
    }
}

fn instance(item: &Node) -> Instance {
    let text = |path: &[&str]| {
        path.iter()
            .try_fold(*item, |node, name| node.children().find(|child| child.has_tag_name_local(name)))
            .and_then(|node| node.text())
            .unwrap_or_default()
            .to_owned()
    };
    let tags = item.children().filter(|child| child.has_tag_name_local("tagSet"));
    let tags = tags.flat_map(|set| set.children().filter(Node::is_element)).map(|tag| {
        let of = |name| tag.children().find(|child| child.has_tag_name_local(name)).and_then(|node| node.text());
        (of("key").unwrap_or_default().to_owned(), of("value").unwrap_or_default().to_owned())
    });
    let groups = item.children().filter(|child| child.has_tag_name_local("groupSet"));
    let groups = groups.flat_map(|set| set.descendants()).filter(|node| node.has_tag_name_local("groupId"));
    Instance {
        id: text(&["instanceId"]),
        instance_type: text(&["instanceType"]),
        zone: text(&["placement", "availabilityZone"]),
        state: text(&["instanceState", "name"]),
        spot: text(&["instanceLifecycle"]) == "spot",
        image: text(&["imageId"]),
        profile: text(&["iamInstanceProfile", "arn"]),
        security_groups: groups.filter_map(|group| group.text().map(str::to_owned)).collect(),
        tags: tags.collect(),
    }
}

/// EC2's answers have a namespace with a date; the names are enough.
trait LocalName {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl LocalName for Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}
