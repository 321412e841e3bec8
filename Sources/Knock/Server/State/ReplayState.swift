import CSystem
import KnockProtocol

/// The replay memory that outlives the process: `replay` in the state directory.
enum ReplayState {
  private static var name: StaticString { "replay" }
  private static var newName: StaticString { "replay.new" }

  /// Why there is no memory.
  enum Failure: Error {
    case system(SystemError)
    case file(ReplayFile.Failure)
    /// What is still remembered does not fit into the capacity.
    case tooSmall(remembered: Int)
  }

  /// What is said of it at start.
  struct Status {
    var remembered = 0
    /// Whether something may have been lost.
    var isDamaged = false
    /// How many seconds our clock is behind the time that has been.
    var secondsBehind = 0.0

    fileprivate func write(_ driftSeconds: Double, to report: Report) {
      if isDamaged || report.verbosity > .quiet {
        var line = report.line()
        if isDamaged {
          line.append("the replay memory was damaged: what is stamped before now + ")
          line.append(seconds: driftSeconds)
          line.append(" s is refused; ")
        }
        line.append(remembered)
        line.append(" knocks remembered")
        report.write(line)
      }
      // A step of the clock that no drift explains.
      guard secondsBehind > driftSeconds else { return }
      var line = report.line()
      line.append("warning: the clock went back: it is ")
      line.append(seconds: secondsBehind)
      line.append(
        " s behind the time when this server last ran, and all knocks are refused until it")
      line.append(" is set; if it is right, remove 'replay' from the state directory")
      report.write(line)
    }
  }

  /// Checks what is there, and leaves it as it is. False, with a report, where it is of no use.
  static func passesCheck(_ settings: ServerSettings, _ report: Report) -> Bool {
    guard let path = settings.stateDirectory else { return true }
    do throws(Failure) {
      try check(try directory(path, onlyChecks: true))
      return true
    } catch {
      // It would be made.
      if case .system(let error) = error, error.number == ENOENT,
        unsafe csys_check_place(path.pointer) == 0
      {
        return true
      }
      write(error, of: path, settings, report)
      return false
    }
  }

  /// The replay memory, from the state directory if there is one. Nil, with a report, where it cannot
  /// be had.
  ///
  /// - Parameter state: gets the directory, which is locked as long as it is kept.
  static func memory(
    _ settings: ServerSettings, keptIn state: inout StateDirectory?, _ report: Report
  ) -> ReplayMemory? {
    guard let path = settings.stateDirectory else {
      guard
        let records = Storage<ReplayMemory.Record>.mapped(settings.replayCapacity),
        let index = Storage<UInt32>.mapped(
          ReplayMemory.indexCount(forRecords: settings.replayCapacity))
      else {
        report.write("replay memory", SystemError(number: ENOMEM))
        return nil
      }
      return ReplayMemory(records: records, index: index)
    }
    do throws(Failure) {
      let directory = try directory(path, onlyChecks: false)
      var status = Status()
      let memory = try open(
        in: directory, capacity: settings.replayCapacity, now: Clock.wallSeconds(),
        driftSeconds: settings.driftSeconds, status: &status)
      state = consume directory
      status.write(settings.driftSeconds, to: report)
      return memory
    } catch {
      write(error, of: path, settings, report)
      return nil
    }
  }

  private static func directory(
    _ path: Argument, onlyChecks: Bool
  ) throws(Failure) -> StateDirectory {
    do throws(SystemError) {
      return try StateDirectory(path, onlyChecks: onlyChecks)
    } catch { throw .system(error) }
  }

  private static func write(
    _ failure: Failure, of path: Argument, _ settings: ServerSettings, _ report: Report
  ) {
    var line = report.line()
    line.append("--state: ")
    line.append(quoted: path, if: settings.keyFile != nil)
    line.append(": ")
    line.append(failure)
    report.write(line)
  }

  /// Checks a file that is there.
  private static func check(_ directory: borrowing StateDirectory) throws(Failure) {
    guard let file = try file(in: directory, name, making: 0), try size(of: file) > 0 else {
      return
    }
    _ = try capacity(of: file)
  }

  /// Opens the file, or makes it, and takes up what is in it. A damaged one is made anew: from what is
  /// left of it, and so that nothing is accepted which the rest may have held.
  ///
  /// - Parameters:
  ///   - now: our clock, in seconds since the Unix epoch.
  ///   - driftSeconds: as the gate has it.
  private static func open(
    in directory: borrowing StateDirectory, capacity: Int, now: Double, driftSeconds: Double,
    status: inout Status
  ) throws(Failure) -> ReplayMemory {
    guard let file = try file(in: directory, name, making: 0) else {
      return try renew(
        nil, in: directory, capacity: capacity, time: now, driftSeconds: driftSeconds,
        isDamaged: false)
    }
    let oldCapacity = try Self.capacity(of: file)
    var old: ReplayMemory?
    var time = now
    if let oldCapacity, try size(of: file) == ReplayFile.size(forRecords: oldCapacity) {
      let mapped = try map(
        file, size: ReplayFile.size(forRecords: oldCapacity), reserving: true)
      let replayFile = ReplayFile(existing: mapped.storage(at: 0, count: headerCount))
      let mark = replayFile.mark
      var memory = try memory(in: mapped, capacity: oldCapacity, replayFile)
      status.isDamaged = !memory.restore()
      mapped.releasePages()
      if let mark {
        time = max(mark, now)
        memory.refuse(upTo: mark - driftSeconds)
      } else {
        status.isDamaged = true
      }
      memory.forgetStale(now: now, driftSeconds: driftSeconds)
      status.secondsBehind = time - now
      status.remembered = memory.count
      if !status.isDamaged, oldCapacity == capacity { return memory }
      old = consume memory
    } else {
      status.isDamaged = true
    }
    return try renew(
      old, in: directory, capacity: capacity, time: time, driftSeconds: driftSeconds,
      isDamaged: status.isDamaged)
  }

  /// Puts a new file in the place of the old one, if there was one. It is whole on the disk before it
  /// gets its name.
  private static func renew(
    _ old: consuming ReplayMemory?, in directory: borrowing StateDirectory, capacity: Int,
    time: Double, driftSeconds: Double, isDamaged: Bool
  ) throws(Failure) -> ReplayMemory {
    guard let file = try file(in: directory, newName, making: O_CREAT | O_TRUNC) else {
      throw .system(SystemError(number: ENOENT))
    }
    let mapped = try map(file, size: ReplayFile.size(forRecords: capacity), reserving: true)
    let replayFile = ReplayFile(
      new: mapped.storage(at: 0, count: headerCount), capacity: capacity, time: time)
    var memory = try memory(in: mapped, capacity: capacity, replayFile)
    if let old {
      guard memory.adopt(old) else { throw .tooSmall(remembered: old.count) }
    }
    if isDamaged { memory.refuse(upTo: time + driftSeconds) }
    do throws(SystemError) {
      _ = try SystemError.check(csys_sync(file.number))
      try directory.rename(newName, to: name)
    } catch { throw .system(error) }
    return memory
  }

  private static var headerCount: Int { ReplayFile.headerSize / MemoryLayout<UInt64>.stride }

  private static func memory(
    in file: MappedFile, capacity: Int, _ replayFile: consuming ReplayFile
  ) throws(Failure) -> ReplayMemory {
    guard let index = Storage<UInt32>.mapped(ReplayMemory.indexCount(forRecords: capacity)) else {
      throw .system(SystemError(number: ENOMEM))
    }
    let records: Storage<ReplayMemory.Record> = file.storage(
      at: ReplayFile.headerSize, count: capacity)
    return ReplayMemory(records: records, index: index, file: replayFile)
  }

  /// Nil where the header is damaged, or not all there.
  private static func capacity(of file: borrowing Descriptor) throws(Failure) -> Int? {
    guard try size(of: file) >= ReplayFile.headerSize else { return nil }
    let header = try map(file, size: ReplayFile.headerSize, reserving: false)
    defer { header.unmap() }
    do throws(ReplayFile.Failure) {
      return try ReplayFile.capacity(of: header.storage(at: 0, count: headerCount))
    } catch {
      guard error == .damagedHeader else { throw .file(error) }
      return nil
    }
  }

  private static func file(
    in directory: borrowing StateDirectory, _ name: StaticString, making flags: Int32
  ) throws(Failure) -> Descriptor? {
    do throws(SystemError) {
      return try directory.open(name, making: flags)
    } catch { throw .system(error) }
  }

  private static func size(of file: borrowing Descriptor) throws(Failure) -> Int {
    let size = csys_size(file.number)
    guard size >= 0 else { throw .system(SystemError(number: Int32(clamping: -size))) }
    return Int(clamping: size)
  }

  private static func map(
    _ file: borrowing Descriptor, size: Int, reserving: Bool
  ) throws(Failure) -> MappedFile {
    do throws(SystemError) {
      return try MappedFile(file, size: size, reserving: reserving)
    } catch { throw .system(error) }
  }
}

extension TextSink where Self: ~Copyable {
  mutating func append(_ failure: ReplayState.Failure) {
    switch failure {
    case .system(let error) where error.number == EWOULDBLOCK:
      append("another server has it")
    case .system(let error) where error.number == EACCES:
      append(error)
      append(" (it must belong to us or root, and only its owner may write to it)")
    case .system(let error): append(error)
    case .file(.foreign), .file(.damagedHeader):
      append("'replay' in it is not a file of pyknock")
    case .file(.newer(let version)):
      append("'replay' in it has format ")
      append(version)
      append(", made by a newer pyknock")
    case .tooSmall(let remembered):
      append("'replay' in it still remembers ")
      append(remembered)
      append(" knocks, more than --replay-capacity")
    }
  }
}
