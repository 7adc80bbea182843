//! The lab: networks of namespaces with emulated links, on which every claim is tested.
