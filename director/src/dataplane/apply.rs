//! Carries out what the reconciler asks for: the only interpreter of its operations.

use std::sync::Arc;

use director_ebpf::abi::{self, Backend, SLOTS_PER_LINE, Service, SlotLine, maps};

use super::error::Error;
use super::faults::{DELETE, WRITE};
use super::{Dataplane, Filter, Flags, Key, flags};
use crate::reconcile::MapOp;

/// The word of a service's record that makes a new slot table take effect: written last.
const TABLE_WORD: usize = std::mem::offset_of!(Service, table) / 8;
/// The word that says what the table was built from.
const SIGNATURE_WORD: usize = std::mem::offset_of!(Service, table_sig) / 8;
/// The word of a backend's record that has its flags: written last. (Its MAC is one word too, so that no packet leaves to half
/// a MAC.)
const FLAGS_WORD: usize = std::mem::offset_of!(Backend, flags) / 8;

impl Dataplane {
    /// Applies operations, in their order. An interface that went away meanwhile is logged and stepped over: the next
    /// observation will tell.
    ///
    /// # Errors
    /// A map refuses; what came before is applied.
    pub fn apply(&mut self, ops: &[MapOp]) -> Result<(), Error> {
        let errors = Arc::clone(&self.errors);
        for op in ops {
            match op {
                MapOp::PutDevice { ifindex } => {
                    let put = self.devices.insert(*ifindex, *ifindex, None, 0);
                    warn_of_device(*ifindex, errors.note(maps::DEVICES, WRITE, put));
                }
                MapOp::DeleteDevice { ifindex } => {
                    let deleted = self.devices.remove(*ifindex);
                    warn_of_device(*ifindex, errors.note(maps::DEVICES, DELETE, deleted));
                }
                MapOp::WriteBackend { id, record } => self.write_backend(*id, record)?,
                MapOp::ClearBackend { id } => self.clear_backend(*id),
                MapOp::WriteSlots { offset, slots } => self.write_slots(*offset, slots),
                MapOp::WriteService { id, record } => self.write_service(*id, record)?,
                MapOp::ClearService { id } => self.clear_service(*id),
                MapOp::WriteFilter(filter) => {
                    errors.note(maps::ADDR_FILTER, WRITE, self.filter.set(0, Filter(**filter), 0))?;
                }
                MapOp::PutKey { key, id } => {
                    errors.note(maps::SERVICE_KEYS, WRITE, self.keys.insert(Key(*key), *id, 0))?;
                }
                MapOp::DeleteKey { key } => match self.keys.remove(&Key(*key)) {
                    Ok(()) | Err(aya::maps::MapError::KeyNotFound) => {}
                    Err(error) => errors.note(maps::SERVICE_KEYS, DELETE, Err(error))?,
                },
            }
        }
        Ok(())
    }

    fn write_backend(&mut self, id: u32, record: &Backend) -> Result<(), Error> {
        self.quarantine.remove(&id);
        if flags(&self.backends, id as usize, Backend::FLAGS) & abi::backend_flag::VALID == 0 {
            self.forget_backend_stats(id)?; // they are of whoever had the id before
        }
        self.backends.set(id as usize, &record.sealed(), FLAGS_WORD);
        Ok(())
    }

    fn write_service(&mut self, id: u32, record: &Service) -> Result<(), Error> {
        if flags(&self.services, id as usize, Service::FLAGS) & abi::service_flag::VALID == 0 {
            self.forget_service_stats(id)?;
        }
        // The signature last: a successor that finds it believes the table to be the one it stands for.
        self.services.set(id as usize, &Service { table_sig: 0, ..*record }, TABLE_WORD);
        self.services.set(id as usize, record, SIGNATURE_WORD);
        Ok(())
    }

    fn clear_backend(&mut self, id: u32) {
        let record = Backend { flags: 0, ..self.backends.get(id as usize) };
        // Only the word with the flags changes: whoever still holds the id sees an unused record of the same real server.
        self.backends.set(id as usize, &record, FLAGS_WORD);
        self.quarantine.insert(id, self.sweeps);
    }

    fn clear_service(&mut self, id: u32) {
        let record = Service { flags: 0, table: 0, ..self.services.get(id as usize) };
        self.services.set(id as usize, &record, TABLE_WORD);
    }

    fn write_slots(&mut self, offset: u32, slots: &[u32]) {
        for (i, chunk) in slots.chunks(SLOTS_PER_LINE as usize).enumerate() {
            let mut line: SlotLine = [0; SLOTS_PER_LINE as usize];
            line[..chunk.len()].copy_from_slice(chunk);
            self.slots.set((offset / SLOTS_PER_LINE) as usize + i, &line, 0);
        }
    }
}

fn warn_of_device(ifindex: u32, result: Result<(), impl std::fmt::Display>) {
    if let Err(error) = result {
        tracing::warn!(ifindex, %error, "cannot change where packets may be redirected to");
    }
}
