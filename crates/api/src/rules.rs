//! What the API server refuses, per node of a schema. Source: Karpenter's API reference.

use serde_json::{Map, Value, json};

use crate::labels;

/// Fields to set on a node of a schema; null removes one.
pub(crate) struct Fragment(pub(crate) Map<String, Value>);

type Rule = (String, Fragment);

const KEY: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(\/))?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
const LIFETIME: &str = "^(([0-9]+(s|m|h))+|Never)$";
const VOLUME_SIZE: &str = r"^((?:[1-9][0-9]{0,3}|[1-4][0-9]{4}|[5][0-8][0-9]{3}|59000)Gi|(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|[6][0-3][0-9]{3}|64000)G|([1-9]||[1-5][0-7]|58)Ti|([1-9]||[1-5][0-9]|6[0-3]|64)T)$";

/// The rows of a kind.
pub(crate) fn rules(kind: &str) -> Vec<Rule> {
    let mut all = Rows::default();
    match kind {
        "NodePool" => node_pool(&mut all),
        "NodeClaim" => node_claim(&mut all),
        "NodeOverlay" => node_overlay(&mut all),
        "EC2NodeClass" => ec2_node_class(&mut all),
        "CapacityBuffer" => capacity_buffer(&mut all),
        _ => {}
    }
    all.0
}

#[derive(Default)]
struct Rows(Vec<Rule>);

impl Rows {
    fn row(&mut self, path: impl Into<String>, fragment: Value) {
        if let Value::Object(fields) = fragment {
            self.0.push((path.into(), Fragment(fields)));
        }
    }

    fn cel(&mut self, path: impl Into<String>, rules: &[(&str, &str)]) {
        let list: Vec<Value> =
            rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect();
        self.row(path, json!({ "x-kubernetes-validations": list }));
    }
}

fn node_pool(all: &mut Rows) {
    all.cel(
        "spec",
        &[
            (
                "has(self.replicas) == has(oldSelf.replicas)",
                "replicas: a pool cannot change between static and dynamic",
            ),
            (
                "!has(self.replicas) || !has(self.limits) || self.limits.all(k, k == 'nodes')",
                "limits: a static pool (replicas set) can limit nodes only",
            ),
            ("!has(self.replicas) || !has(self.weight)", "weight: a static pool (replicas set) has no weight"),
        ],
    );
    all.row("spec.replicas", json!({ "minimum": 0 }));
    all.row("spec.weight", json!({ "minimum": 1, "maximum": 100 }));
    all.row("spec.disruption", json!({ "default": { "consolidateAfter": "0s" } }));
    all.row("spec.disruption.consolidateAfter", json!({ "pattern": LIFETIME, "default": "0s" }));
    all.row(
        "spec.disruption.budgets",
        json!({
            "maxItems": 50, "x-kubernetes-list-type": "atomic", "default": [{ "nodes": "10%" }],
            "x-kubernetes-validations": [{
                "rule": "self.all(x, has(x.schedule) == has(x.duration))",
                "message": "budgets: schedule and duration must be set together",
            }],
        }),
    );
    all.row("spec.disruption.budgets[]", json!({ "required": ["nodes"] }));
    all.row("spec.disruption.budgets[].nodes", json!({ "pattern": "^((100|[0-9]{1,2})%|[0-9]+)$", "default": "10%" }));
    all.row("spec.disruption.budgets[].reasons", json!({ "maxItems": 50, "x-kubernetes-list-type": "set" }));
    all.row(
        "spec.disruption.budgets[].schedule",
        json!({
            "pattern": r"^(@(annually|yearly|monthly|weekly|daily|midnight|hourly))|((.+)\s(.+)\s(.+)\s(.+)\s(.+))$",
        }),
    );
    all.row("spec.disruption.budgets[].duration", json!({ "pattern": "^((([0-9]+(h|m))|([0-9]+h[0-9]+m))(0s)?)$" }));
    all.row("spec.template.metadata.annotations", json!({ "x-kubernetes-map-type": "granular" }));
    let allowed = aws_keys(AwsKeys::OfNodes);
    all.row("spec.template.metadata.labels", json!({
        "maxProperties": 100, "x-kubernetes-map-type": "atomic",
        "x-kubernetes-validations": [
            {
                "rule": "self.all(x, x in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool'] || !x.find('^([^/]+)').endsWith('karpenter.sh'))",
                "message": "labels: label domain karpenter.sh is restricted",
            },
            { "rule": "self.all(x, x != 'karpenter.sh/nodepool')", "message": "labels: label karpenter.sh/nodepool is restricted" },
            { "rule": "self.all(x, x != 'kubernetes.io/hostname')", "message": "labels: label kubernetes.io/hostname is restricted" },
            {
                "rule": format!("self.all(x, x in {allowed} || !x.find('^([^/]+)').endsWith('karpenter.k8s.aws'))"),
                "message": "labels: label domain karpenter.k8s.aws is restricted",
            },
        ],
    }));
    all.row("spec.template.metadata.labels{}", json!({ "pattern": LABEL_VALUE, "maxLength": 63 }));
    node_spec(all, "spec.template.spec");
    all.cel(
        "spec.template.spec.nodeClassRef",
        &[
            ("self.group == oldSelf.group", "nodeClassRef.group is immutable"),
            ("self.kind == oldSelf.kind", "nodeClassRef.kind is immutable"),
        ],
    );
    requirement_keys(all, "spec.template.spec.requirements[].key", true, AwsKeys::OfNodes);
    all.row("status.nodes", json!({ "default": 0 }));
    conditions(all, false);
}

fn node_claim(all: &mut Rows) {
    all.cel("spec", &[("self == oldSelf", "spec is immutable")]);
    node_spec(all, "spec");
    requirement_keys(all, "spec.requirements[].key", false, AwsKeys::OfNodes);
    conditions(all, true);
}

fn node_overlay(all: &mut Rows) {
    all.cel("spec", &[("!has(self.price) || !has(self.priceAdjustment)", "price: cannot be set with priceAdjustment")]);
    all.cel(
        "spec.capacity",
        &[(
            "self.all(x, !(x in ['cpu', 'memory', 'ephemeral-storage', 'pods']))",
            "capacity: cpu, memory, ephemeral-storage and pods cannot be overlaid",
        )],
    );
    all.row("spec.price", json!({ "pattern": r"^\d+(\.\d+)?$" }));
    all.row(
        "spec.priceAdjustment",
        json!({
            "pattern": r"^(([+-]{1}(\d*\.?\d+))|(\+{1}\d*\.?\d+%)|(^(-\d{1,2}(\.\d+)?%)$)|(-100%))$",
        }),
    );
    all.row("spec.weight", json!({ "minimum": 1, "maximum": 10000 }));
    all.row(
        "spec.requirements",
        json!({
            "maxItems": 100, "x-kubernetes-list-type": "atomic",
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(x, x.operator == 'NotIn' ? has(x.values) && x.values.size() != 0 : true)",
                    "message": "requirements: operator NotIn needs a value",
                },
                in_needs_values(), bounds_need_one_integer(),
            ],
        }),
    );
    all.row("spec.requirements[].key", json!({ "pattern": KEY, "maxLength": 316 }));
    all.row("spec.requirements[].values", json!({ "x-kubernetes-list-type": "atomic" }));
    all.row("spec.requirements[].values[]", json!({ "pattern": LABEL_VALUE, "maxLength": 63 }));
    requirement_keys(all, "spec.requirements[].key", false, AwsKeys::OfTypes);
    conditions(all, false);
}

fn capacity_buffer(all: &mut Rows) {
    all.cel(
        "spec",
        &[
            (
                "!has(self.podTemplateRef) || has(self.replicas) || has(self.limits)",
                "podTemplateRef: needs replicas or limits",
            ),
            (
                "!(has(self.podTemplateRef) && has(self.scalableRef))",
                "podTemplateRef and scalableRef exclude each other",
            ),
        ],
    );
    for path in
        ["spec.podTemplateRef.name", "spec.scalableRef.kind", "spec.scalableRef.name", "status.podTemplateRef.name"]
    {
        all.row(path, json!({ "minLength": 1 }));
    }
    all.row("spec.replicas", json!({ "minimum": 0 }));
    all.row("spec.percentage", json!({ "minimum": 0 }));
    all.row("spec.provisioningStrategy", json!({ "default": "buffer.x-k8s.io/active-capacity" }));
    conditions(all, false);
}

/// What NodePool templates and NodeClaims have in common.
fn node_spec(all: &mut Rows, spec: &str) {
    for list in ["taints", "startupTaints"] {
        all.row(format!("{spec}.{list}"), json!({ "x-kubernetes-list-type": "atomic" }));
        all.row(format!("{spec}.{list}[].key"), json!({ "pattern": KEY, "minLength": 1 }));
        all.row(format!("{spec}.{list}[].value"), json!({ "pattern": KEY }));
        all.row(format!("{spec}.{list}[].effect"), json!({ "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"] }));
    }
    all.row(format!("{spec}.terminationGracePeriod"), json!({ "pattern": "^([0-9]+(s|m|h))+$" }));
    all.row(format!("{spec}.expireAfter"), json!({ "pattern": LIFETIME, "default": "720h" }));
    all.row(format!("{spec}.nodeClassRef.group"), json!({ "pattern": "^[^/]*$" }));
    for field in ["group", "kind", "name"] {
        let message = format!("nodeClassRef.{field} may not be empty");
        all.cel(format!("{spec}.nodeClassRef.{field}"), &[("self != ''", message.as_str())]);
    }
    all.row(format!("{spec}.requirements"), json!({
        "maxItems": 100, "x-kubernetes-list-type": "atomic",
        "x-kubernetes-validations": [
            in_needs_values(), bounds_need_one_integer(),
            {
                "rule": "self.all(x, (x.operator == 'In' && has(x.minValues)) ? x.values.size() >= x.minValues : true)",
                "message": "requirements: minValues is more than there are values",
            },
        ],
    }));
    all.row(format!("{spec}.requirements[].key"), json!({ "pattern": KEY, "maxLength": 316 }));
    all.row(format!("{spec}.requirements[].minValues"), json!({ "minimum": 1, "maximum": 50, "format": null }));
    all.row(format!("{spec}.requirements[].values"), json!({ "x-kubernetes-list-type": "atomic" }));
    // In Karpenter's CRDs this stands on the list, where the API server does not look; no label can have other values.
    all.row(format!("{spec}.requirements[].values[]"), json!({ "pattern": LABEL_VALUE, "maxLength": 63 }));
}

fn in_needs_values() -> Value {
    json!({
        "rule": "self.all(x, x.operator == 'In' ? has(x.values) && x.values.size() != 0 : true)",
        "message": "requirements: operator In needs a value",
    })
}

fn bounds_need_one_integer() -> Value {
    json!({
        "rule": "self.all(x, x.operator in ['Gt', 'Lt', 'Gte', 'Lte'] ? has(x.values) && x.values.size() == 1 && x.values[0].matches('^0*[0-9]{1,18}$') : true)",
        "message": "requirements: operators Gt, Lt, Gte and Lte need exactly one integer that is not negative",
    })
}

fn requirement_keys(all: &mut Rows, path: &str, not_nodepool: bool, aws: AwsKeys) {
    let allowed = aws_keys(aws);
    let aws_rule = format!("self in {allowed} || !self.find('^([^/]+)').endsWith('karpenter.k8s.aws')");
    let mut rules = vec![
        (
            "self in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool'] || !self.find('^([^/]+)').endsWith('karpenter.sh')",
            "requirements key: label domain karpenter.sh is restricted",
        ),
        ("self != 'kubernetes.io/hostname'", "requirements key: label kubernetes.io/hostname is restricted"),
        (aws_rule.as_str(), "requirements key: label domain karpenter.k8s.aws is restricted"),
    ];
    if not_nodepool {
        rules.insert(
            1,
            ("self != 'karpenter.sh/nodepool'", "requirements key: label karpenter.sh/nodepool is restricted"),
        );
    }
    all.cel(path, &rules);
}

/// Which of AWS' keys a kind may require: overlays select types, not launches.
#[derive(Clone, Copy, PartialEq)]
enum AwsKeys {
    OfNodes,
    OfTypes,
}

/// Keys that are decided with a launch rather than by the instance type.
const LAUNCH_KEYS: [&str; 6] = [
    labels::INSTANCE_TENANCY,
    labels::CAPACITY_RESERVATION_ID,
    labels::CAPACITY_RESERVATION_TYPE,
    labels::CAPACITY_RESERVATION_INTERRUPTIBLE,
    labels::PLACEMENT_GROUP_ID,
    labels::PLACEMENT_GROUP_PARTITION,
];

/// The keys as a list of CEL.
fn aws_keys(allowed: AwsKeys) -> String {
    let is_of_type = |key: &&&str| key.starts_with("karpenter.k8s.aws/") && !LAUNCH_KEYS.contains(key);
    let of_types = labels::WELL_KNOWN.iter().filter(is_of_type);
    let of_launches = LAUNCH_KEYS.iter().filter(|_| allowed == AwsKeys::OfNodes);
    format!("[{}]", of_types.chain(of_launches).map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", "))
}

fn conditions(all: &mut Rows, may_be_empty: bool) {
    all.row("status.conditions", json!({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] }));
    let required = if may_be_empty {
        json!(["lastTransitionTime", "status", "type"])
    } else {
        json!(["lastTransitionTime", "message", "reason", "status", "type"])
    };
    all.row("status.conditions[]", json!({ "required": required }));
    all.row("status.conditions[].type", json!({
        "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        "maxLength": 316,
    }));
    all.row("status.conditions[].status", json!({ "enum": ["True", "False", "Unknown"] }));
    let reason = if may_be_empty {
        json!({ "pattern": "^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?|)$", "maxLength": 1024, "default": null })
    } else {
        json!({ "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "minLength": 1, "maxLength": 1024, "default": null })
    };
    all.row("status.conditions[].reason", reason);
    all.row("status.conditions[].message", json!({ "maxLength": 32768, "default": null }));
    all.row("status.conditions[].observedGeneration", json!({ "minimum": 0 }));
}

fn ec2_node_class(all: &mut Rows) {
    let families = [
        ("al2", "AL2"),
        ("al2023", "AL2023"),
        ("bottlerocket", "Bottlerocket"),
        ("windows2019", "Windows2019"),
        ("windows2022", "Windows2022"),
        ("windows2025", "Windows2025"),
    ];
    let mut spec = vec![json!({
        "rule": "has(self.role) != has(self.instanceProfile)",
        "message": "role and instanceProfile: exactly one must be set",
    })];
    for (alias, family) in families {
        spec.push(json!({
            "rule": format!("!has(self.amiFamily) || !self.amiSelectorTerms.exists(x, has(x.alias) && x.alias.find('^[^@]+') == '{alias}') || self.amiFamily in ['{family}', 'Custom']"),
            "message": format!("amiFamily: with an alias of {alias} it must be {family} or Custom"),
        }));
    }
    spec.push(json!({
        "rule": "has(self.amiFamily) || self.amiSelectorTerms.exists(x, has(x.alias))",
        "message": "amiFamily: must be set when amiSelectorTerms has no alias",
    }));
    // Karpenter lets the spec itself be absent, with which nothing could be launched: here it is required.
    all.row(
        "spec",
        json!({
            "x-kubernetes-validations": spec,
            "required": ["amiSelectorTerms", "securityGroupSelectorTerms", "subnetSelectorTerms"],
        }),
    );
    for (field, message) in [("role", "role may not be empty"), ("instanceProfile", "instanceProfile may not be empty")]
    {
        all.cel(format!("spec.{field}"), &[("self != ''", message)]);
    }
    ami_terms(all);
    selector_terms(all);
    devices(all);
    all.row("spec.metadataOptions", json!({ "default": {
        "httpEndpoint": "enabled", "httpProtocolIPv6": "disabled", "httpPutResponseHopLimit": 1, "httpTokens": "required",
    }}));
    all.row("spec.metadataOptions.httpEndpoint", json!({ "enum": ["enabled", "disabled"] }));
    all.row("spec.metadataOptions.httpProtocolIPv6", json!({ "enum": ["enabled", "disabled"] }));
    all.row("spec.metadataOptions.httpTokens", json!({ "enum": ["required", "optional"] }));
    all.row("spec.metadataOptions.httpPutResponseHopLimit", json!({ "minimum": 1, "maximum": 64 }));
    all.row("spec.networkInterfaces", json!({
        "maxItems": 150,
        "x-kubernetes-validations": [
            {
                "rule": "self.size() == 0 || self.exists(x, x.networkCardIndex == 0 && x.deviceIndex == 0 && x.interfaceType == 'interface')",
                "message": "networkInterfaces: card 0, device 0 must be of type interface",
            },
            {
                "rule": "self.all(x, self.exists_one(y, x.networkCardIndex == y.networkCardIndex && x.deviceIndex == y.deviceIndex) && (x.interfaceType != 'efa-only' || self.exists_one(y, y.networkCardIndex == x.networkCardIndex && y.interfaceType == 'efa-only')))",
                "message": "networkInterfaces: each card and device once, and one efa-only interface per card",
            },
        ],
    }));
    all.row("spec.networkInterfaces[].networkCardIndex", json!({ "minimum": 0 }));
    all.row("spec.networkInterfaces[].deviceIndex", json!({ "minimum": 0 }));
    all.row("spec.ipPrefixCount", json!({ "minimum": 0 }));
    all.cel(
        "spec.connectionTracking",
        &[(
            "has(self.tcpEstablishedTimeout) || has(self.udpStreamTimeout) || has(self.udpTimeout)",
            "connectionTracking: at least one timeout must be set",
        )],
    );
    all.row("spec.connectionTracking.tcpEstablishedTimeout", json!({ "minimum": 60, "maximum": 432_000 }));
    all.row("spec.connectionTracking.udpStreamTimeout", json!({ "minimum": 60, "maximum": 180 }));
    all.row("spec.connectionTracking.udpTimeout", json!({ "minimum": 30, "maximum": 60 }));
    all.row("spec.cpuOptions.nestedVirtualization", json!({ "enum": ["enabled", "disabled"] }));
    all.cel(
        "spec.placementGroupSelector",
        &[
            ("has(self.name) || has(self.id)", "placementGroupSelector: name or id must be set"),
            ("!(has(self.name) && has(self.id))", "placementGroupSelector: name and id exclude each other"),
        ],
    );
    all.row("spec.placementGroupSelector.name", json!({ "minLength": 1 }));
    all.row("spec.placementGroupSelector.id", json!({ "pattern": "^pg-[0-9a-z]+$" }));
    let reserved = |rule: &str, name: &str| json!({ "rule": rule, "message": format!("tags: {name}") });
    all.row("spec.tags", json!({ "x-kubernetes-validations": [
        reserved("self.all(k, k != '')", "empty tag keys are not supported"),
        reserved("self.all(k, k != 'eks:eks-cluster-name')", "tag eks:eks-cluster-name is reserved"),
        reserved("self.all(k, !k.startsWith('kubernetes.io/cluster'))", "tags kubernetes.io/cluster are reserved"),
        reserved("self.all(k, k != 'karpenter.sh/nodepool')", "tag karpenter.sh/nodepool is reserved"),
        reserved("self.all(k, k != 'karpenter.sh/nodeclaim')", "tag karpenter.sh/nodeclaim is reserved"),
        reserved("self.all(k, k != 'karpenter.k8s.aws/ec2nodeclass')", "tag karpenter.k8s.aws/ec2nodeclass is reserved"),
    ]}));
    all.row(
        "spec.kubelet",
        json!({
            "x-kubernetes-preserve-unknown-fields": true,
            "additionalProperties": { "x-kubernetes-preserve-unknown-fields": true },
        }),
    );
    all.row("status.capacityReservations[].id", json!({ "pattern": "^cr-[0-9a-z]+$" }));
    all.row("status.capacityReservations[].ownerID", json!({ "pattern": "^[0-9]{12}$" }));
    all.row("status.capacityReservations[].reservationType", json!({ "enum": ["default", "capacity-block"] }));
    all.row("status.capacityReservations[].state", json!({ "enum": ["active", "expiring"] }));
    all.row("status.amis[].requirements[].values", json!({ "x-kubernetes-list-type": "atomic" }));
    conditions(all, false);
    // Karpenter's EC2NodeClass has a plain list here; a map by type is what it means.
    all.row("status.conditions", json!({ "x-kubernetes-list-type": null, "x-kubernetes-list-map-keys": null }));
}

fn no_empty_tags(path: &str) -> (String, Value) {
    let rule = json!({
        "rule": "self.all(k, k != '' && self[k] != '')",
        "message": "tags: empty keys and values are not supported",
    });
    (path.to_owned(), json!({ "maxProperties": 20, "x-kubernetes-validations": [rule] }))
}

fn ami_terms(all: &mut Rows) {
    let list = "spec.amiSelectorTerms";
    all.row(
        list,
        json!({ "minItems": 1, "maxItems": 30, "default": null, "x-kubernetes-validations": [
            {
                "rule": "self.all(x, has(x.tags) || has(x.id) || has(x.name) || has(x.alias) || has(x.ssmParameter))",
                "message": "amiSelectorTerms: each term must set at least one of tags, id, name, alias, ssmParameter",
            },
            {
                "rule": "!self.exists(x, has(x.id) && (has(x.alias) || has(x.tags) || has(x.name) || has(x.owner)))",
                "message": "amiSelectorTerms: id excludes the other fields of its term",
            },
            {
                "rule": "!self.exists(x, has(x.alias) && (has(x.id) || has(x.tags) || has(x.name) || has(x.owner)))",
                "message": "amiSelectorTerms: alias excludes the other fields of its term",
            },
            {
                "rule": "!(self.exists(x, has(x.alias)) && self.size() != 1)",
                "message": "amiSelectorTerms: a term with an alias must be the only term",
            },
        ]}),
    );
    all.row("spec.amiSelectorTerms[].alias", json!({ "maxLength": 30, "x-kubernetes-validations": [
        { "rule": "self.matches('^[a-zA-Z0-9]+@.+$')", "message": "alias: expected the form family@version" },
        {
            "rule": "self.find('^[^@]+') in ['al2', 'al2023', 'bottlerocket', 'windows2019', 'windows2022', 'windows2025']",
            "message": "alias: the family must be one of al2, al2023, bottlerocket, windows2019, windows2022, windows2025",
        },
        {
            "rule": "self.find('^[^@]+') in ['windows2019', 'windows2022', 'windows2025'] ? self.split('@')[1] == 'latest' : true",
            "message": "alias: windows families know the version latest only",
        },
    ]}));
    all.row("spec.amiSelectorTerms[].id", json!({ "pattern": "ami-[0-9a-z]+" }));
    let (path, tags) = no_empty_tags("spec.amiSelectorTerms[].tags");
    all.row(path, tags);
}

fn selector_terms(all: &mut Rows) {
    all.row("spec.subnetSelectorTerms", json!({ "maxItems": 30, "default": null, "x-kubernetes-validations": [
        { "rule": "self.size() != 0", "message": "subnetSelectorTerms may not be empty" },
        { "rule": "self.all(x, has(x.tags) || has(x.id))", "message": "subnetSelectorTerms: each term must set tags or id" },
        { "rule": "!self.all(x, has(x.id) && has(x.tags))", "message": "subnetSelectorTerms: id excludes tags" },
    ]}));
    all.row("spec.subnetSelectorTerms[].id", json!({ "pattern": "subnet-[0-9a-z]+" }));
    all.row(
        "spec.securityGroupSelectorTerms",
        json!({ "maxItems": 30, "default": null, "x-kubernetes-validations": [
            { "rule": "self.size() != 0", "message": "securityGroupSelectorTerms may not be empty" },
            {
                "rule": "self.all(x, has(x.tags) || has(x.id) || has(x.name))",
                "message": "securityGroupSelectorTerms: each term must set tags, id or name",
            },
            {
                "rule": "!self.all(x, has(x.id) && (has(x.tags) || has(x.name)))",
                "message": "securityGroupSelectorTerms: id excludes tags and name",
            },
            {
                "rule": "!self.all(x, has(x.name) && (has(x.tags) || has(x.id)))",
                "message": "securityGroupSelectorTerms: name excludes tags and id",
            },
        ]}),
    );
    all.row("spec.securityGroupSelectorTerms[].id", json!({ "pattern": "sg-[0-9a-z]+" }));
    all.row(
        "spec.capacityReservationSelectorTerms",
        json!({ "maxItems": 30, "x-kubernetes-validations": [
            {
                "rule": "self.all(x, has(x.tags) || has(x.id) || has(x.instanceMatchCriteria))",
                "message": "capacityReservationSelectorTerms: each term must set tags, id or instanceMatchCriteria",
            },
            {
                "rule": "!self.all(x, has(x.id) && (has(x.tags) || has(x.ownerID) || has(x.instanceMatchCriteria)))",
                "message": "capacityReservationSelectorTerms: id excludes the other fields",
            },
        ]}),
    );
    all.row("spec.capacityReservationSelectorTerms[].id", json!({ "pattern": "^cr-[0-9a-z]+$" }));
    all.row("spec.capacityReservationSelectorTerms[].ownerID", json!({ "pattern": "^[0-9]{12}$" }));
    for list in ["subnetSelectorTerms", "securityGroupSelectorTerms", "capacityReservationSelectorTerms"] {
        let (path, tags) = no_empty_tags(&format!("spec.{list}[].tags"));
        all.row(path, tags);
    }
}

fn devices(all: &mut Rows) {
    all.row(
        "spec.blockDeviceMappings",
        json!({ "maxItems": 50, "x-kubernetes-validations": [{
            "rule": "self.filter(x, has(x.rootVolume) && x.rootVolume == true).size() <= 1",
            "message": "blockDeviceMappings: at most one rootVolume",
        }]}),
    );
    all.cel(
        "spec.blockDeviceMappings[].ebs",
        &[
            ("has(self.snapshotID) || has(self.volumeSize)", "ebs: snapshotID or volumeSize must be set"),
            (
                "!has(self.volumeInitializationRate) || (has(self.snapshotID) && self.snapshotID != '')",
                "ebs: volumeInitializationRate needs a snapshotID",
            ),
        ],
    );
    all.row("spec.blockDeviceMappings[].ebs.volumeInitializationRate", json!({ "minimum": 100, "maximum": 300 }));
    all.row("spec.blockDeviceMappings[].ebs.volumeSize", json!({ "pattern": VOLUME_SIZE }));
    all.row(
        "spec.blockDeviceMappings[].ebs.volumeType",
        json!({
            "enum": ["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"],
        }),
    );
}
