import KnockBase
import KnockServer

/// The journal of grants: `grants` in the state directory. Each server writes it again where it is.
enum GrantState {
  /// Checks an existing file without a change.
  static func check(in directory: borrowing StateDirectory) throws(StateFailure) {
    try OldStateFile.check(.grants, in: directory, Grants.capacity)
  }

  /// The file as the running server writes it.
  struct Journal: ~Copyable {
    private(set) var file: StateFile
    /// Its first page, with the names of the sets. The grants have the names in the same memory.
    private let page: Storage<UInt8>
    /// The checksum of the names in the file.
    private var writtenNames: UInt64 = 0

    fileprivate init(_ page: consuming Storage<UInt8>, capacity: Int) {
      self.page = page
      file = StateFile(.grants, size: Grants.fileSize(forGrants: capacity), needsAll: true)
    }

    /// Writes what has changed. Logs if that fails, and when all is well again.
    mutating func logSave(_ grants: inout Grants, in directory: inout StateDirectory) {
      file.logSave(in: &directory, now: SystemClock.monotonic()) { file, all throws(SystemError) in
        // A user may have a set of their own.
        let names = page.numbers[FileHeader.size / 8]
        if all || names != writtenNames {
          try page.withElements(0..<page.count) { page throws(SystemError) in
            try file.write(unsafe page.bytes, at: 0)
          }
          writtenNames = names
        }
        try grants.save(all: all) { bytes, offset throws(SystemError) in
          try file.write(bytes, at: offset)
        } sync: { () throws(SystemError) in
          try file.sync()
        }
      }
    }
  }

  /// Grants that no file keeps.
  static func inMemory(_ capacity: Int) throws(StateFailure) -> Grants {
    try grants(capacity, SetNames(try StateFile.memory(SetNames.size, of: UInt8.self)))
  }

  /// The number that a set has in the grants; nil if it has none.
  static func number(of set: FirewallSet?, in names: borrowing SetNames) -> UInt16? {
    set?.number(in: names)
  }

  /// The grants, with those that an earlier server has left.
  ///
  /// - Parameters:
  ///   - latest: see `Grants.adopt`.
  ///   - journal: stays nil if there is none.
  ///   - found: what was in the journal.
  @inline(never)
  static func grants(
    _ settings: ServerSettings, in directory: borrowing StateDirectory, latest: Int64,
    journal: inout Journal?, found: inout Grants.Found
  ) throws(StateFailure) -> Grants {
    let capacity = settings.grantCapacity
    var old = try OldStateFile(.grants, in: directory)
    // Users may have sets.
    let isNeeded =
      settings.closeAfterSeconds != nil || settings.firewall.sets != nil
      || settings.keysDirectory != nil
    guard old != nil || isNeeded else { return try inMemory(1) }
    let page = try StateFile.memory(FileHeader.pageSize, of: UInt8.self)
    // The old names keep their numbers: records with them are in the file until this server has written its own.
    old?.copyPage(to: page)
    let names = SetNames(page.part(from: FileHeader.size))
    if !names.isWhole {
      for index in 0..<page.count { page[index] = 0 }
    }
    Grants.writeHeader(capacity: capacity, to: page.numbers)
    var grants = try grants(capacity, names)
    if let old = old.take() {
      let foundGrants = try read(old, into: &grants, latest: latest)
      guard foundGrants.fits else { throw .tooSmall(.grants, count: foundGrants.count) }
      found = foundGrants
    }
    grants.forgetUnusedNames()
    guard addNames(of: settings.firewall, to: grants.names) else { throw .tooManySets }
    journal = Journal(page, capacity: capacity)
    return grants
  }

  /// Returns false if there is no room for the names of the sets.
  private static func addNames(of firewall: FirewallSettings, to names: borrowing SetNames) -> Bool
  {
    let (inet, inet6) = (firewall.set(for: .inet), firewall.set(for: .inet6))
    return (inet == nil || number(of: inet, in: names) != nil)
      && (inet6 == nil || number(of: inet6, in: names) != nil)
  }

  /// The open grants in a state directory that another process may be using.
  ///
  /// - Parameter found: what was in the journal.
  static func grants(
    in directory: borrowing StateDirectory, found: inout Grants.Found
  ) throws(StateFailure) -> Grants {
    guard let file = try OldStateFile(.grants, in: directory) else { return try inMemory(1) }
    var grants = try inMemory(max(1, recordCount(of: file) - 1))
    found = try read(file, into: &grants, latest: .min)
    return grants
  }

  private static func grants(
    _ capacity: Int, _ names: consuming SetNames
  ) throws(StateFailure) -> Grants {
    let count = capacity + 1
    guard let index = PositionIndex.mapped(forRecords: count) else { throw .system(.outOfMemory) }
    var secret = InlineArray<8, UInt8>(repeating: 0)
    var bytes = secret.mutableSpan
    bytes.fillWithRandomBytes()
    return Grants(
      records: try StateFile.memory(count, of: Grants.Record.self),
      changed: try StateFile.memory(count / 64 + 1, of: UInt64.self), names: names,
      states: try StateFile.memory(count, of: Grants.State.self),
      heap: try StateFile.memory(count, of: UInt32.self), index: index,
      areas: try StateFile.memory(count, of: UInt32.self), place: CurrentProcess.place,
      secret: secret.span.bigEndian(at: 0, count: 8))
  }

  /// Adopts the grants of a file, which may be damaged.
  private static func read(
    _ file: borrowing OldStateFile, into grants: inout Grants, latest: Int64
  ) throws(StateFailure) -> Grants.Found {
    let page = try StateFile.memory(FileHeader.pageSize, of: UInt8.self)
    file.copyPage(to: page)
    let capacity = try file.capacity(of: page.numbers, Grants.capacity)
    let count = recordCount(of: file)
    var found = Grants.Found()
    if count > 0 {
      let records = try StateFile.memory(count, of: Grants.Record.self)
      try file.copy(to: records)
      found = grants.adopt(
        records, names: SetNames(page.part(from: FileHeader.size)), wallNow: SystemClock.wall(),
        now: SystemClock.sinceBoot(), latest: latest)
      records.unmap()
    }
    page.unmap()
    // Records that the file lacks are damaged too. Without a header, it is at least one.
    found.damagedCount += capacity.map { max(0, $0 + 1 - count) } ?? 1
    return found
  }

  private static func recordCount(of file: borrowing OldStateFile) -> Int {
    let count = max(0, file.size - FileHeader.pageSize) / MemoryLayout<Grants.Record>.stride
    return min(count, ServerSettings.maximumCapacity + 1)
  }
}
