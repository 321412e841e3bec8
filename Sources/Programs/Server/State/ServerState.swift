import KnockServer

/// What a server remembers. With a state directory, the next server remembers it too.
struct ServerState: ~Copyable {
  /// It stays locked until this value ends.
  let directory: StateDirectory?
  let replays: ReplayMemory
  let grants: Grants

  /// What was in the files.
  struct Found {
    /// Nil if there is no state directory.
    fileprivate(set) var replays: ReplayState.Found?
    fileprivate(set) var grants = Grants.Found()
  }

  private init(_ settings: ServerSettings, found: inout Found) throws(StateFailure) {
    let directory = try Self.directory(settings, onlyChecks: false)
    var foundReplays = ReplayState.Found()
    let replays = try ReplayState.memory(settings, in: directory, found: &foundReplays)
    if directory != nil { found.replays = foundReplays }
    let grants = try GrantState.grants(settings, in: directory, found: &found.grants)
    self.replays = replays
    self.grants = grants
    self.directory = directory
  }

  /// Locks the state directory, if there is one, and reads what is in it.
  ///
  /// - Parameter found: what was in the files, also if an error is thrown after they were read.
  static func open(
    _ settings: ServerSettings, found: inout Found
  ) throws(StateError) -> ServerState {
    do throws(StateFailure) {
      return try ServerState(settings, found: &found)
    } catch { throw StateError(path: settings.stateDirectory, failure: error) }
  }

  /// Checks existing files without a change.
  static func check(_ settings: ServerSettings) throws(StateError) {
    do throws(StateFailure) {
      guard let directory = try directory(settings, onlyChecks: true) else { return }
      try ReplayState.check(in: directory)
      try GrantState.check(in: directory)
    } catch {
      // A missing directory would be made.
      if case .system(.notFound) = error, let path = settings.stateDirectory {
        do throws(SystemError) { return try path.checkPlace() } catch {}
      }
      throw StateError(path: settings.stateDirectory, failure: error)
    }
  }

  private static func directory(
    _ settings: ServerSettings, onlyChecks: Bool
  ) throws(StateFailure) -> StateDirectory? {
    guard let path = settings.stateDirectory else { return nil }
    return try StateFailure.wrapping { () throws(SystemError) in
      try StateDirectory(path, onlyChecks: onlyChecks)
    }
  }
}

extension ServerState.Found {
  /// Logs what was in the files.
  ///
  /// - Parameter drift: the drift of the gate (microseconds).
  func logAll(drift: Int64) {
    if let replays {
      let count = replays.count
      if replays.isDamaged {
        log.warning(
          """
          the replay memory was damaged: what is stamped before now + \(seconds: drift) s is \
          refused; \(count) knocks remembered
          """)
      } else {
        log.info("\(count) knocks remembered")
      }
      // No drift explains such a step of the clock.
      if replays.timeBehind > drift {
        log.warning(
          """
          warning: the clock went back: it is \(seconds: replays.timeBehind) s behind the \
          time when this server last ran, and all knocks are refused until it is set; if it is \
          right, remove 'replay' from the state directory
          """)
      }
    }
    if grants.damagedCount > 0 {
      log.warning(
        """
        warning: a part of the journal of grants is damaged (\(grants.damagedCount) records), \
        and what it stands for may stay open; \(openGrants)
        """)
    } else if grants.count > 0 {
      log.info("\(openGrants)")
    }
  }

  private var openGrants: Message {
    """
    \(grants.count) \(grants.count == 1 ? "grant is" : "grants are") open, \
    \(grants.overdueCount) of them overdue
    """
  }
}
