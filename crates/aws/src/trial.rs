//! A launch that is tried without launching: whether this controller may launch what a class asks for.

use karpenter_api::ec2nodeclass::AmiStatus;
use karpenter_api::{NodePool, labels as keys};
use karpenter_core::World;
use karpenter_core::cloud::{CapacityType, InstanceType};
use karpenter_core::requirements::{Requirement, Requirements};

use crate::call::Trial;
use crate::capacity::{Sizing, is_windows};
use crate::catalogue::takes;
use crate::class::{Class, Draft};
use crate::launch::image_fits;
use crate::template::Content;
use crate::{Aws, expression, hash_name};

/// Types to try when no NodePool says which: one of each architecture.
const USUAL: [&str; 2] = ["m5.large", "m6g.large"];

impl Aws {
    /// Whether the figures of the class's kubelet can be computed for every type; the first problem if not.
    pub(crate) fn check_figures(&self, class: &Class) -> Result<(), String> {
        let sizing = Sizing::new(class.family(), &class.object.spec, &self.settings);
        self.types.iter().try_for_each(|info| expression::resolved(&sizing, info).map_or(Ok(()), |all| all.map(drop)))
    }

    /// The trial of a class, once everything that goes into it is known.
    pub(crate) fn trial(&self, world: &World, class: &Class, draft: &Draft) -> Option<Trial> {
        if self.settings.disable_dry_run || !draft.is_complete() {
            return None;
        }
        let (image, row) = self.tried_type(world, class, draft)?;
        let content = Content {
            settings: &self.settings,
            class,
            status: &draft.status,
            cluster: self.cluster()?,
            types: &self.types,
            claim: None,
            capacity_type: CapacityType::OnDemand,
            tenancy: tenancy(world, class),
            partition: None,
        };
        // User data that cannot be made was told of before.
        let template = content.template(image, &content.shape(row)).ok()?;
        let mut subnet_ids: Vec<String> =
            draft.status.subnets.iter().flatten().map(|subnet| subnet.id.clone()).collect();
        // The order is that of free addresses, which change all the time.
        subnet_ids.sort();
        let inputs = hash_name(&format!("{} {} {subnet_ids:?}", template.name, row.name));
        Some(Trial { class: class.name().to_owned(), inputs, template, instance_type: row.name.clone(), subnet_ids })
    }

    /// A type that a pool of the class could get, and the image it would start with; plain machines before accelerated
    /// ones, whose images may need larger volumes.
    fn tried_type<'a>(
        &'a self,
        world: &World,
        class: &Class,
        draft: &'a Draft,
    ) -> Option<(&'a AmiStatus, &'a InstanceType)> {
        let rows = self.rows.get(class.name())?;
        let images = draft.status.amis.as_deref()?;
        let fits =
            |row: &'a InstanceType| Some((images.iter().find(|image| image_fits(image, &row.requirements))?, row));
        let plain = |row: &&InstanceType| {
            let lacks = |key| row.requirements.get(key).is_none_or(Requirement::has_no_value);
            lacks(keys::INSTANCE_GPU_COUNT) && lacks(keys::INSTANCE_ACCELERATOR_COUNT)
        };
        let info = |row: &InstanceType| {
            self.types.binary_search_by(|info| info.name.cmp(&row.name)).ok().and_then(|at| self.types.get(at))
        };
        let all = || {
            let rows = rows.all.iter().map(AsRef::as_ref);
            rows.filter(|row| info(row).is_some_and(|info| takes(class, info)))
        };
        let pools: Vec<Requirements> = pools(world, class).map(requirements).collect();
        let of_pools = || all().filter(|row| pools.iter().any(|pool| row.requirements.intersects(pool).is_ok()));
        let usual = || all().filter(|row| USUAL.contains(&row.name.as_str()));
        // Rows of Windows may hold types that Windows does not start on.
        let wanted = || of_pools().filter(|_| !is_windows(class.family()));
        let mut order = wanted().filter(plain).chain(wanted()).chain(usual()).chain(all().filter(plain)).chain(all());
        order.find_map(fits)
    }
}

fn pools<'a>(world: &'a World, class: &'a Class) -> impl Iterator<Item = &'a NodePool> {
    world.pools.values().filter(|pool| pool.spec.template.spec.node_class_ref.name == class.name())
}

fn requirements(pool: &NodePool) -> Requirements {
    let mut all = Requirements::default();
    for spec in &pool.spec.template.spec.requirements {
        all.add(keys::normalized(&spec.key), Requirement::from_spec(spec));
    }
    let labels = pool.spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    for (key, value) in labels.into_iter().flatten() {
        all.add(keys::normalized(key), Requirement::one_of([value.clone()]));
    }
    all
}

/// Dedicated hardware needs rights of its own: it is tried if a pool may ask for it.
fn tenancy(world: &World, class: &Class) -> &'static str {
    let asks = |pool: &NodePool| {
        let requirements = requirements(pool);
        requirements.get(keys::INSTANCE_TENANCY).is_some_and(|tenancy| tenancy.has("dedicated"))
    };
    if pools(world, class).any(asks) { "dedicated" } else { "default" }
}
