//! The download of a provider's bill of a day, checked by its hash.

use std::io::Write;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use super::{Called, Outcalls, moment, sendable};
use providers::api::Trouble;

/// The most bytes of a bill.
const MOST: u64 = 4 << 30;

impl Outcalls {
    /// Writes the bill of a day (`2026-11-21`) into `to`; returns its bytes. An error says why it cannot be had, and
    /// then what was written is not the bill.
    pub async fn bill(&self, channel: &str, date: &str, to: &mut (dyn Write + Send)) -> Result<u64, String> {
        let none = || format!("the provider of channel {channel} is not called, or has no bills");
        let called = self.channels().by_name.get(channel).cloned().ok_or_else(none)?;
        let Called { api, .. } = &*called;
        let request = api.bill(date, moment()?).ok_or_else(none)?;
        let answer = self.answer(request).await?;
        let link = api.bill_link(&answer, moment()?).map_err(|Trouble(why)| why)?;
        let (mut digest, mut written, mut failed) = (Context::new(&SHA1_FOR_LEGACY_USE_ONLY), 0, None);
        let mut take = |part: &[u8]| {
            digest.update(part);
            written += part.len() as u64;
            if failed.is_none() {
                failed = to.write_all(part).err();
            }
        };
        let (status, _) = self.client.stream(sendable(link.request), MOST, &mut take).await?;
        if let Some(e) = failed {
            return Err(format!("the bill cannot be written: {e}"));
        }
        match status {
            200 if base::hex::encode(digest.finish().as_ref()) == link.sha1 => Ok(written),
            200 => Err("the bill's bytes do not have its SHA-1".to_owned()),
            status => Err(format!("it answered {status}")),
        }
    }
}
