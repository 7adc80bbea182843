//! An eBPF object whose maps exist and whose programs refer to them, without what a program is for being known yet.
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::EbpfError;
use aya::maps::{MapData, MapError};
use aya_obj::EbpfSectionKind;

use super::super::{Error, sys};
use super::load;
use sys::program::Use;

/// An object that has been read.
pub struct Object {
    name: &'static str,
    parsed: aya_obj::Object,
    maps: HashMap<String, MapData>,
}

impl Object {
    /// Takes an ELF file apart, sets its globals by name, and makes its maps.
    ///
    /// aya-obj reads programs only from sections that are named as it knows them; `fentry/…` is closest to what programs
    /// for [`super::register`] get, a row of arguments.
    ///
    /// # Errors
    /// `Error::Object` or `Error::Globals`.
    pub fn new(name: &'static str, file: &[u8], globals: &[(&str, &[u8])]) -> Result<Self, Error> {
        let error = |source: EbpfError| Error::Object { object: name, source: Box::new(source) };
        let mut parsed = aya_obj::Object::parse(file).map_err(|source| error(source.into()))?;
        let globals = globals.iter().map(|(global, bytes)| (*global, (*bytes, true)));
        parsed.patch_map_data(globals.collect()).map_err(|source| error(source.into()))?;
        let mut maps = HashMap::new();
        for (map, definition) in &parsed.maps {
            let made = MapData::create(definition.clone(), map, None);
            let made = made.map_err(|source: MapError| error(source.into()))?;
            fill(&made, definition).map_err(|source| Error::Globals { object: name, source })?;
            maps.insert(map.clone(), made);
        }
        let code = parsed.functions.keys().map(|(section, _)| *section).collect::<HashSet<_>>();
        let placed: Vec<_> = maps
            .iter()
            .filter_map(|(map, data)| {
                let definition = parsed.maps.get(map)?.clone();
                Some((map.as_str(), data.fd().as_fd().as_raw_fd(), definition))
            })
            .collect();
        let placed = placed.iter().map(|(map, fd, definition)| (*map, *fd, definition));
        parsed.relocate_maps(placed, &code).map_err(|source| error(source.into()))?;
        parsed.relocate_calls(&code).map_err(|source| error(source.into()))?;
        Ok(Self { name, parsed, maps })
    }

    /// The object's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Takes one of its maps. The programs keep using it.
    ///
    /// # Errors
    /// `Error::Mismatch` when there is none of this name, or it is taken already.
    pub fn take_map(&mut self, map: &'static str) -> Result<MapData, Error> {
        self.maps.remove(map).ok_or(Error::Mismatch { object: self.name, part: map })
    }

    /// Loads one of its programs. To be done before a map is taken and dropped.
    pub(in crate::bpf) fn load(&self, program: &'static str, what: Use) -> Result<OwnedFd, Error> {
        let code = self.parsed.programs.get(program).and_then(|found| {
            let function = self.parsed.functions.get(&found.function_key())?;
            Some((&function.instructions, &found.license))
        });
        let (code, license) = code.ok_or(Error::Mismatch { object: self.name, part: program })?;
        load(what, program, code, license).map_err(|(source, log)| Error::Refused {
            object: self.name,
            program,
            source,
            log,
        })
    }
}

/// Sets what is in a section of the file, and makes constant what is constant.
fn fill(map: &MapData, definition: &aya_obj::Map) -> Result<(), nix::errno::Errno> {
    let data = definition.data();
    if !data.is_empty() {
        sys::program::set_only_value(map.fd().as_fd(), definition.value_size() as usize, data)?;
    }
    if definition.section_kind() == EbpfSectionKind::Rodata {
        sys::program::freeze_map(map.fd().as_fd())?;
    }
    Ok(())
}
