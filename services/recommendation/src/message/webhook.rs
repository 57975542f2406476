//! Endpoints and messages to them on the wire.

use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_vocabulary::{InvalidValue, TenantId};

use crate::domain::webhook::event_id;
use crate::storage::{Delivery, DeliveryState, Webhook};

pub(crate) fn webhook(webhook: Webhook) -> wire::Webhook {
    wire::Webhook {
        id: webhook.id,
        url: webhook.url,
        event_types: webhook.event_types,
        created_by: webhook.created_by,
        create_time: Some(timestamp(webhook.create_ms)),
        previous_secret_expire_time: webhook.previous_expire_ms.map(timestamp),
    }
}

pub(crate) fn delivery(tenant: &TenantId, delivery: &Delivery) -> wire::Delivery {
    let waits = delivery.state == DeliveryState::Waiting;
    wire::Delivery {
        event_id: event_id(tenant, delivery.sequence),
        event_type: delivery.event_type.clone(),
        service_id: delivery.service_id.clone(),
        event_time: Some(timestamp(delivery.event_ms)),
        state: match delivery.state {
            DeliveryState::Waiting => wire::DeliveryState::Waiting,
            DeliveryState::Delivered => wire::DeliveryState::Delivered,
            DeliveryState::Dead => wire::DeliveryState::Dead,
        } as i32,
        attempt_count: delivery.attempt_count,
        next_attempt_time: waits.then(|| timestamp(delivery.next_ms)),
        last_status: u32::from(delivery.last_status),
        last_error: delivery.last_error.clone(),
    }
}

/// The state asked for; `None` for any.
pub(crate) fn state_of(number: i32) -> Result<Option<DeliveryState>, InvalidValue> {
    let unknown =
        |_| InvalidValue::new("state", "unknown_value", format!("{number} is no state that this version knows"));
    Ok(match wire::DeliveryState::try_from(number).map_err(unknown)? {
        wire::DeliveryState::Unspecified => None,
        wire::DeliveryState::Waiting => Some(DeliveryState::Waiting),
        wire::DeliveryState::Delivered => Some(DeliveryState::Delivered),
        wire::DeliveryState::Dead => Some(DeliveryState::Dead),
    })
}
