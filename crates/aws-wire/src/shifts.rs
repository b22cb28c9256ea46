//! ARC zonal shifts of the cluster.

use aws_sdk_arczonalshift::types::{AppliedStatus, AutoshiftAppliedStatus};
use karpenter_aws::report::{CallError, ZonalShift};

use crate::{Wire, error};

impl Wire {
    pub(crate) async fn zonal_shifts(&self, cluster_arn: &str) -> Result<Vec<ZonalShift>, CallError> {
        let request = self.shifts.get_managed_resource().resource_identifier(cluster_arn);
        let answer = request.send().await.map_err(error::of("GetManagedResource"))?;
        let shifts = answer.zonal_shifts.into_iter().map(|shift| ZonalShift {
            applied: shift.applied_status == AppliedStatus::Applied,
            until: jiff::Timestamp::from_second(shift.expiry_time.secs()).ok(),
            zone_id: shift.away_from,
        });
        // AWS ends these, and says nothing of when.
        let own = answer.autoshifts.unwrap_or_default().into_iter().map(|shift| ZonalShift {
            applied: shift.applied_status == AutoshiftAppliedStatus::Applied,
            until: None,
            zone_id: shift.away_from,
        });
        Ok(shifts.chain(own).collect())
    }

    /// Whether ARC manages the cluster at all, which only its owner can arrange.
    pub async fn zonal_shift_is_enabled(&self, cluster: &str) -> Result<(), CallError> {
        let arn = self.cluster(cluster).await?.arn;
        self.zonal_shifts(&arn).await.map(drop)
    }
}
