//! Real encodings to begin with: what the program itself writes.

use visitflow::generate::{Settings, Shop};
use visitflow_schemas::message;

/// Messages of a made shop, with all that goes wrong in one.
pub fn messages() -> Vec<Vec<u8>> {
    let settings = Settings {
        events: 20_000,
        ..Settings::default()
    };
    let shop = Shop::new(settings).expect("the default settings are right");
    shop.step_by(100).map(|arrival| arrival.value).collect()
}

/// Their bodies.
pub fn bodies() -> Vec<Vec<u8>> {
    let body = |message: Vec<u8>| message::split(&message).ok().map(|(_, body)| body.to_vec());
    messages().into_iter().filter_map(body).collect()
}

/// Texts as seeds.
pub fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
