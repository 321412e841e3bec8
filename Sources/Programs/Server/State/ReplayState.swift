import KnockBase
import KnockServer

/// The replay memory that outlives the process: `replay` in the state directory.
enum ReplayState {
  private static var name: StaticString { "replay" }
  private static var newName: StaticString { "replay.new" }

  /// What is said of it at start.
  struct Status {
    var remembered = 0
    /// Whether something may have been lost.
    var isDamaged = false
    /// How far our clock is behind the time that has been (microseconds).
    var timeBehind: Int64 = 0

    fileprivate func write(_ drift: Int64, to report: Report) {
      if isDamaged || report.verbosity > .quiet {
        var line = Line(isDamaged ? .warning : .info)
        if isDamaged {
          line.append("the replay memory was damaged: what is stamped before now + ")
          line.append(seconds: drift)
          line.append(" s is refused; ")
        }
        line.append(remembered)
        line.append(" knocks remembered")
        report.write(line)
      }
      // A step of the clock that no drift explains.
      guard timeBehind > drift else { return }
      var line = Line(.warning)
      line.append("warning: the clock went back: it is ")
      line.append(seconds: timeBehind)
      line.append(
        " s behind the time when this server last ran, and all knocks are refused until it")
      line.append(" is set; if it is right, remove 'replay' from the state directory")
      report.write(line)
    }
  }

  /// Checks a file that is there, and leaves it as it is.
  static func check(in directory: borrowing StateDirectory) throws(StateFailure) {
    try StateFile.check(name, in: directory, ReplayFile.capacity)
  }

  /// The replay memory, from the state directory if there is one.
  static func memory(
    _ settings: ServerSettings, in directory: borrowing StateDirectory?, _ report: Report
  ) throws(StateFailure) -> ReplayMemory {
    switch directory {
    case .some(let directory): return try memory(settings, in: directory, report)
    case nil:
      guard
        let records = Storage<ReplayMemory.Record>.mapped(settings.replayCapacity),
        let index = PositionIndex.mapped(forRecords: settings.replayCapacity)
      else { throw .system(.outOfMemory) }
      return ReplayMemory(records: records, index: index)
    }
  }

  private static func memory(
    _ settings: ServerSettings, in directory: borrowing StateDirectory, _ report: Report
  ) throws(StateFailure) -> ReplayMemory {
    var status = Status()
    let memory = try open(
      in: directory, capacity: settings.replayCapacity, now: SystemClock.wallMicroseconds(),
      drift: settings.drift, status: &status)
    status.write(settings.drift, to: report)
    return memory
  }

  /// Opens the file, or makes it, and takes up what is in it. A damaged one is made anew: from what is
  /// left of it, and so that nothing is accepted which the rest may have held.
  ///
  /// - Parameters:
  ///   - now: our clock, in microseconds since the Unix epoch.
  ///   - drift: as the gate has it.
  private static func open(
    in directory: borrowing StateDirectory, capacity: Int, now: Int64, drift: Int64,
    status: inout Status
  ) throws(StateFailure) -> ReplayMemory {
    guard let file = try StateFile.existing(name, in: directory) else {
      return try renew(
        nil, in: directory, capacity: capacity, time: now, drift: drift,
        isDamaged: false)
    }
    let oldCapacity = try file.capacity(ReplayFile.capacity)
    var old: ReplayMemory?
    var time = now
    if let oldCapacity, try file.size == ReplayFile.size(forRecords: oldCapacity) {
      let mapped = try file.map(
        size: ReplayFile.size(forRecords: oldCapacity), reserving: true)
      let replayFile = ReplayFile(existing: mapped.storage(at: 0, count: StateFile.headerCount))
      let mark = replayFile.mark
      var memory = try memory(in: mapped, capacity: oldCapacity, replayFile)
      status.isDamaged = !memory.restore()
      mapped.releasePages()
      if let mark {
        time = max(mark, now)
        memory.refuse(upTo: mark.subtractingSaturated(drift))
      } else {
        status.isDamaged = true
      }
      memory.forgetStale(now: now, drift: drift)
      status.timeBehind = time.subtractingSaturated(now)
      status.remembered = memory.count
      if !status.isDamaged, oldCapacity == capacity { return memory }
      old = consume memory
    } else {
      status.isDamaged = true
    }
    return try renew(
      old, in: directory, capacity: capacity, time: time, drift: drift,
      isDamaged: status.isDamaged)
  }

  /// Puts a new file in the place of the old one, if there was one. It is whole on the disk before it
  /// gets its name.
  private static func renew(
    _ old: consuming ReplayMemory?, in directory: borrowing StateDirectory, capacity: Int,
    time: Int64, drift: Int64, isDamaged: Bool
  ) throws(StateFailure) -> ReplayMemory {
    let file = try StateFile(replacing: name, as: newName, in: directory)
    let mapped = try file.map(size: ReplayFile.size(forRecords: capacity), reserving: true)
    let replayFile = ReplayFile(
      new: mapped.storage(at: 0, count: StateFile.headerCount), capacity: capacity, time: time)
    var memory = try memory(in: mapped, capacity: capacity, replayFile)
    if let old {
      guard memory.adopt(old) else {
        throw .tooSmall(name: name, count: old.count, option: "replay-capacity")
      }
    }
    if isDamaged { memory.refuse(upTo: time.addingSaturated(drift)) }
    try file.replace(newName, in: directory)
    return memory
  }

  private static func memory(
    in file: MappedFile, capacity: Int, _ replayFile: consuming ReplayFile
  ) throws(StateFailure) -> ReplayMemory {
    guard let index = PositionIndex.mapped(forRecords: capacity) else {
      throw .system(.outOfMemory)
    }
    let records: Storage<ReplayMemory.Record> = file.storage(
      at: FileHeader.pageSize, count: capacity)
    return ReplayMemory(records: records, index: index, file: replayFile)
  }
}
