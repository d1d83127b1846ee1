//! Where made arrivals go: a log, a list, lines of JSON, or nowhere.

use std::io::Write;

use super::shop::Arrival;
use super::truth::hex;

/// What a sink says when it cannot go on.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Takes arrivals, in order of log time, each once. After an error nothing more comes.
pub trait ArrivalSink {
    /// Takes one.
    fn send(&mut self, arrival: &Arrival) -> Result<(), SinkError>;

    /// Nothing more comes: whatever was taken must be where it belongs when this returns.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl ArrivalSink for Vec<Arrival> {
    fn send(&mut self, arrival: &Arrival) -> Result<(), SinkError> {
        self.push(arrival.clone());
        Ok(())
    }
}

/// Takes arrivals and drops them: for who wants the right answer, or the time it takes.
impl ArrivalSink for () {
    fn send(&mut self, _: &Arrival) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Lines `{"log_time":…,"key":"…","value":"hex"}`.
pub struct JsonLines<W>(pub W);

impl<W: Write> ArrivalSink for JsonLines<W> {
    fn send(&mut self, arrival: &Arrival) -> Result<(), SinkError> {
        let key = serde_json::Value::from(String::from_utf8_lossy(&arrival.key));
        let (log_time, value) = (arrival.log_time, hex(&arrival.value));
        writeln!(
            self.0,
            "{{\"log_time\":{log_time},\"key\":{key},\"value\":\"{value}\"}}"
        )?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(self.0.flush()?)
    }
}
