import KnockServer

/// What a server remembers. With a state directory, the next server remembers it too.
struct ServerState: ~Copyable {
  /// It stays locked until this value ends.
  let directory: StateDirectory?
  let replays: ReplayMemory
  let grants: Grants
  /// What was in the files.
  private let foundReplays: ReplayState.Found?
  private let foundGrants: Grants.Found

  private init(_ settings: ServerSettings) throws(StateFailure) {
    let directory = try Self.directory(settings, onlyChecks: false)
    var foundReplays = ReplayState.Found()
    let replays = try ReplayState.memory(settings, in: directory, found: &foundReplays)
    var foundGrants = Grants.Found()
    let grants = try GrantState.grants(settings, in: directory, found: &foundGrants)
    self.foundReplays = directory == nil ? nil : foundReplays
    self.foundGrants = foundGrants
    self.replays = replays
    self.grants = grants
    self.directory = directory
  }

  /// Locks the state directory, if there is one, and reads what is in it.
  static func open(_ settings: ServerSettings) throws(StateError) -> ServerState {
    do throws(StateFailure) {
      return try ServerState(settings)
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

  /// Logs what was in the files.
  ///
  /// - Parameter drift: the drift of the gate (microseconds).
  func logFound(drift: Int64) {
    if let foundReplays {
      let count = foundReplays.count
      if foundReplays.isDamaged {
        log.warning(
          """
          the replay memory was damaged: what is stamped before now + \(seconds: drift) s is \
          refused; \(count) knocks remembered
          """)
      } else {
        log.info("\(count) knocks remembered")
      }
      // No drift explains such a step of the clock.
      if foundReplays.timeBehind > drift {
        log.warning(
          """
          warning: the clock went back: it is \(seconds: foundReplays.timeBehind) s behind the \
          time when this server last ran, and all knocks are refused until it is set; if it is \
          right, remove 'replay' from the state directory
          """)
      }
    }
    if foundGrants.damagedCount > 0 {
      log.warning(
        """
        warning: a part of the journal of grants is damaged (\(foundGrants.damagedCount) records), \
        and what it stands for may stay open; \(openGrants)
        """)
    } else if foundGrants.count > 0 {
      log.info("\(openGrants)")
    }
  }

  private var openGrants: Message {
    """
    \(foundGrants.count) \(foundGrants.count == 1 ? "grant is" : "grants are") open, \
    \(foundGrants.overdueCount) of them overdue
    """
  }
}
