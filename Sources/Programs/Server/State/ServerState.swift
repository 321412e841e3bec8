import KnockServer

/// What a server remembers; with a state directory, also beyond its end.
struct ServerState: ~Copyable {
  /// Locked as long as it is kept.
  let directory: StateDirectory?
  let replays: ReplayMemory
  let grants: Grants

  private init(_ settings: ServerSettings, _ report: Report) throws(StateFailure) {
    let directory = try Self.directory(settings, onlyChecks: false)
    let replays = try ReplayState.memory(settings, in: directory, report)
    let grants = try GrantState.grants(settings, in: directory, report)
    self.directory = directory
    self.replays = replays
    self.grants = grants
  }

  /// Nil, with a report, where it cannot be had.
  static func open(_ settings: ServerSettings, _ report: Report) -> ServerState? {
    do throws(StateFailure) {
      return try ServerState(settings, report)
    } catch {
      error.write(settings, to: report)
      return nil
    }
  }

  /// Checks what is there, and leaves it as it is. False, with a report, where it is of no use.
  static func passesCheck(_ settings: ServerSettings, _ report: Report) -> Bool {
    do throws(StateFailure) {
      guard let directory = try directory(settings, onlyChecks: true) else { return true }
      try ReplayState.check(in: directory)
      try GrantState.check(in: directory)
      return true
    } catch {
      // It would be made.
      if case .system(.notFound) = error, let path = settings.stateDirectory {
        do throws(SystemError) {
          try path.checkPlace()
          return true
        } catch {}
      }
      error.write(settings, to: report)
      return false
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
