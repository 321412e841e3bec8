import KnockBase
import KnockServer

/// The journal of grants: `grants` in the state directory. Each server replaces it by a new file.
enum GrantState {
  /// Checks an existing file without a change.
  static func check(in directory: borrowing StateDirectory) throws(StateFailure) {
    try StateFile.check(.grants, in: directory, Grants.capacity)
  }

  /// The grants, with those that an earlier server has left. Without a directory there are none.
  ///
  /// - Parameter found: what was in the journal.
  static func grants(
    _ settings: ServerSettings, in directory: borrowing StateDirectory?,
    found: inout Grants.Found
  ) throws(StateFailure) -> Grants {
    switch directory {
    case .some(let directory): return try grants(settings, in: directory, found: &found)
    case nil: return try inMemory(settings.grantCapacity)
    }
  }

  private static func inMemory(_ capacity: Int) throws(StateFailure) -> Grants {
    guard let records = Storage<Grants.Record>.mapped(capacity + 1),
      let names = Storage<UInt8>.mapped(SetNames.size)
    else { throw .system(.outOfMemory) }
    return try grants(in: records, names)
  }

  /// The number that a set has in the grants; nil if it has none.
  static func number(of set: FirewallSet?, in names: borrowing SetNames) -> UInt16? {
    set?.number(in: names)
  }

  private static func grants(
    _ settings: ServerSettings, in directory: borrowing StateDirectory, found: inout Grants.Found
  ) throws(StateFailure) -> Grants {
    let capacity = settings.grantCapacity
    let file = try StateFile.existing(.grants, in: directory)
    let isNeeded = settings.closeAfterSeconds != nil || settings.firewall.sets != nil
    guard file != nil || isNeeded else { return try inMemory(1) }

    let new = try StateFile(replacing: .grants, in: directory)
    let mapped = try new.map(size: Grants.fileSize(forGrants: capacity), reserving: true)
    // It belongs to the executor. The receiver must not be able to change it.
    try StateFailure.wrapping { () throws(SystemError) in try mapped.keepFromChildren() }
    Grants.writeHeader(
      capacity: capacity, to: mapped.storage(at: 0, count: StateFile.headerCount))
    var grants = try grants(
      in: mapped.storage(at: FileHeader.pageSize, count: capacity + 1),
      mapped.storage(at: FileHeader.size, count: SetNames.size))
    // First, so that there is room for them.
    _ = number(of: settings.firewall.set(for: .inet), in: grants.names)
    _ = number(of: settings.firewall.set(for: .inet6), in: grants.names)
    if let file {
      let old = try read(file, into: &grants)
      guard old.fits else {
        throw .tooSmall(.grants, count: old.count)
      }
      found = old
    }
    try new.takeName(in: directory)
    return grants
  }

  /// The open grants in a state directory, which another process may be using.
  static func grants(in path: Argument) throws(StateFailure) -> Grants {
    let directory = try StateFailure.wrapping { () throws(SystemError) in
      try StateDirectory(path, onlyChecks: true)
    }
    guard let file = try StateFile.existing(.grants, in: directory), try file.size > 0 else {
      return try inMemory(1)
    }
    var grants = try inMemory(max(1, try recordCount(of: file) - 1))
    _ = try read(file, into: &grants)
    return grants
  }

  private static func grants(
    in records: consuming Storage<Grants.Record>, _ names: consuming Storage<UInt8>
  ) throws(StateFailure) -> Grants {
    guard let states = Storage<Grants.State>.mapped(records.count),
      let heap = Storage<UInt32>.mapped(records.count),
      let index = PositionIndex.mapped(forRecords: records.count)
    else { throw .system(.outOfMemory) }
    return Grants(
      records: records, names: SetNames(names), states: states, heap: heap, index: index,
      place: CurrentProcess.place)
  }

  /// Adopts the grants of a file, which may be damaged.
  private static func read(
    _ file: borrowing StateFile, into grants: inout Grants
  ) throws(StateFailure) -> Grants.Found {
    let capacity = try file.capacity(Grants.capacity)
    let count = try recordCount(of: file)
    var found = Grants.Found()
    if count > 0 {
      let mapped = try file.map(size: try file.size, reserving: false)
      found = grants.adopt(
        mapped.storage(at: FileHeader.pageSize, count: count),
        names: SetNames(mapped.storage(at: FileHeader.size, count: SetNames.size)),
        wallNow: SystemClock.wall(),
        now: SystemClock.sinceBoot())
      mapped.unmap()
    }
    // Records that the file lacks are damaged too. Without a header, it is at least one.
    found.damagedCount += capacity.map { max(0, $0 + 1 - count) } ?? 1
    return found
  }

  private static func recordCount(of file: borrowing StateFile) throws(StateFailure) -> Int {
    let size = try file.size
    let count = max(0, size - FileHeader.pageSize) / MemoryLayout<Grants.Record>.stride
    return min(count, ServerSettings.maximumCapacity + 1)
  }
}
