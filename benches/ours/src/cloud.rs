//! A cloud that only has a catalogue: no decision about pending pods needs more.

use std::sync::Arc;

use karpenter_api::NodePool;
use karpenter_core::cloud::{CatalogueProblem, InstanceType, LaunchBatch, LaunchProblem, NodeClassState};
use karpenter_core::{Cloud, Timestamp};

use crate::Input;

#[derive(Debug)]
pub struct FixedCloud {
    pub types: Arc<[Arc<InstanceType>]>,
}

impl FixedCloud {
    pub fn new(input: &Input) -> anyhow::Result<Self> {
        let rows = input.instance_types.iter().map(|row| row.instance_type().map(Arc::new));
        Ok(Self { types: rows.collect::<anyhow::Result<Vec<_>>>()?.into() })
    }
}

impl Cloud for FixedCloud {
    type Call = ();

    fn version(&self) -> u64 {
        0
    }

    fn node_class(&self, _name: &str) -> NodeClassState {
        NodeClassState::Ready { generation: 1 }
    }

    fn catalogue(&self, _pool: &NodePool) -> Result<Arc<[Arc<InstanceType>]>, CatalogueProblem> {
        Ok(Arc::clone(&self.types))
    }

    fn launch(&self, _batch: &LaunchBatch<'_>, _planned: &[()], _now: Timestamp) -> Result<(), LaunchProblem> {
        Err(LaunchProblem::NotYet("nothing is launched here".to_owned()))
    }

    fn find(&self, _batch: &LaunchBatch<'_>) -> Option<()> {
        None
    }

    fn terminate(&self, _provider_id: &str) {}
}
