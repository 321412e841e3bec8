import KnockBase
import KnockServer

/// The journal of grants: `grants` in the state directory. Each server makes it anew from what is in it.
enum GrantState {
  private static var name: StaticString { "grants" }
  private static var newName: StaticString { "grants.new" }

  /// Checks a file that is there, and leaves it as it is.
  static func check(in directory: borrowing StateDirectory) throws(StateFailure) {
    try StateFile.check(name, in: directory, Grants.capacity)
  }

  /// The grants, with those that an earlier server has left. Without a journal there are none.
  static func grants(
    _ settings: ServerSettings, in directory: borrowing StateDirectory?, _ report: Report
  ) throws(StateFailure) -> Grants {
    switch directory {
    case .some(let directory): return try grants(settings, in: directory, report)
    case nil: return try none()
    }
  }

  private static func none() throws(StateFailure) -> Grants {
    guard let records = Storage<Grants.Record>.mapped(2) else {
      throw .system(.outOfMemory)
    }
    return try grants(in: records)
  }

  private static func grants(
    _ settings: ServerSettings, in directory: borrowing StateDirectory, _ report: Report
  ) throws(StateFailure) -> Grants {
    let capacity = settings.grantCapacity
    let file = try StateFile.existing(name, in: directory)
    guard file != nil || settings.closeAfterSeconds != nil else { return try none() }

    let new = try StateFile(replacing: name, as: newName, in: directory)
    let mapped = try new.map(size: Grants.fileSize(forGrants: capacity), reserving: true)
    // It is the executor's: the receiver must not be able to change it.
    try StateFailure.wrapping { () throws(SystemError) in try mapped.keepFromChildren() }
    Grants.writeHeader(
      capacity: capacity, to: mapped.storage(at: 0, count: StateFile.headerCount))
    var grants = try grants(in: mapped.storage(at: FileHeader.pageSize, count: capacity + 1))
    if let file {
      let found = try read(file, into: &grants)
      guard found.fits else {
        throw .tooSmall(name: name, count: found.count, option: "grant-capacity")
      }
      write(found, to: report)
    }
    try new.replace(newName, in: directory)
    return grants
  }

  /// Prints the open grants, those first that end first.
  static func list(
    in path: Argument, asJSON: Bool, to output: inout FileText
  ) throws(StateFailure) {
    let directory = try StateFailure.wrapping { () throws(SystemError) in
      try StateDirectory(path, onlyChecks: true)
    }
    var grants = try none()
    if let file = try StateFile.existing(name, in: directory), try file.size > 0 {
      let count = max(2, try recordCount(of: file))
      guard let records = Storage<Grants.Record>.mapped(count) else {
        throw .system(.outOfMemory)
      }
      grants = try Self.grants(in: records)
      _ = try read(file, into: &grants)
    }
    // Nothing is printed before all is read.
    var list = GrantList(asJSON: asJSON)
    list.begin(&output)
    while let record = grants.removeFirst() { list.append(record, to: &output) }
    list.end(&output)
  }

  private static func grants(
    in records: consuming Storage<Grants.Record>
  ) throws(StateFailure) -> Grants {
    guard let states = Storage<Grants.State>.mapped(records.count),
      let heap = Storage<UInt32>.mapped(records.count),
      let index = PositionIndex.mapped(forRecords: records.count)
    else { throw .system(.outOfMemory) }
    return Grants(records: records, states: states, heap: heap, index: index)
  }

  /// Takes over what is in a file, whole or not.
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
        wallNow: SystemClock.wallMicroseconds(),
        now: SystemClock.monotonicMilliseconds())
      mapped.unmap()
    }
    // As many as are not there, or their header is not.
    found.damagedCount += capacity.map { max(0, $0 + 1 - count) } ?? 1
    return found
  }

  private static func recordCount(of file: borrowing StateFile) throws(StateFailure) -> Int {
    let size = try file.size
    let count = max(0, size - FileHeader.pageSize) / MemoryLayout<Grants.Record>.stride
    return min(count, ServerSettings.maximumCapacity + 1)
  }

  private static func write(_ found: Grants.Found, to report: Report) {
    guard found.damagedCount > 0 || found.count > 0 && report.verbosity > .quiet else { return }
    var line = Line(found.damagedCount > 0 ? .warning : .info)
    if found.damagedCount > 0 {
      line.append("warning: a part of the journal of grants is damaged (")
      line.append(found.damagedCount)
      line.append(" records), and what it stands for may stay open; ")
    }
    line.append(found.count)
    line.append(found.count == 1 ? " grant is open, " : " grants are open, ")
    line.append(found.overdueCount)
    line.append(" of them overdue")
    report.write(line)
  }
}

/// How open grants are printed: as a table, or as JSON (RFC 8259). Times are UTC (RFC 3339).
private struct GrantList {
  private static let addressWidth = 39  // The longest there is.
  private let isJSON: Bool
  private var isFirst = true

  init(asJSON: Bool) { isJSON = asJSON }

  func begin(_ output: inout FileText) {
    if isJSON { return output.append("[") }
    output.append("ADDRESS")
    for _ in 7..<Self.addressWidth { output.append(" ") }
    output.append("  SINCE                 ENDS\n")
  }

  mutating func append(_ record: Grants.Record, to output: inout FileText) {
    guard let address = record.address else { return }
    if isJSON {
      output.append(isFirst ? "\n  {\"address\": \"" : ",\n  {\"address\": \"")
      output.append(address)
      output.append("\", \"since\": \"")
      output.append(utc: record.since)
      output.append("\", \"ends\": \"")
      output.append(utc: record.ends)
      output.append("\"}")
    } else {
      var length = TextLength()
      length.append(address)
      output.append(address)
      for _ in length.count..<Self.addressWidth + 2 { output.append(" ") }
      output.append(utc: record.since)
      output.append("  ")
      output.append(utc: record.ends)
      output.append("\n")
    }
    isFirst = false
  }

  func end(_ output: inout FileText) {
    if isJSON { output.append(isFirst ? "]\n" : "\n]\n") }
  }
}
