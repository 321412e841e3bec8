import KnockBase

/// The phases that a stop of the server goes through.
struct Shutdown {
  /// How long the knocks that the receiver has accepted are acted on. The rest is only logged.
  private static let drainPatience = 3 * Microseconds.second
  /// How long all grants together may take to close.
  private static let closePatience = 60 * Microseconds.second

  private enum Phase {
    /// No stop.
    case running
    /// The receiver hands over what it has accepted. Until a moment in monotonic microseconds that is acted on as
    /// before.
    case draining(until: Int64)
    /// The grants are being closed, until a moment in monotonic microseconds.
    case closing(until: Int64)
    /// The last commands may end.
    case ending
  }

  /// What the executor must do when a phase begins.
  enum Step {
    case closeGrants
    case endCommands
  }

  let closesGrants: Bool
  private var phase = Phase.running

  /// - Parameter closesGrants: whether the server closes all grants before it ends.
  init(closesGrants: Bool) { self.closesGrants = closesGrants }

  var hasBegun: Bool {
    if case .running = phase { false } else { true }
  }

  var isEnding: Bool {
    if case .ending = phase { true } else { false }
  }

  /// Whether knocks are acted on.
  func takesKnocks(now: Int64) -> Bool {
    switch phase {
    case .running: true
    case .draining(let deadline): now < deadline
    case .closing, .ending: false
    }
  }

  /// When `advance` has something to do at the latest, in monotonic microseconds.
  var nextDeadline: Int64 {
    if case .closing(let deadline) = phase { deadline } else { .max }
  }

  /// Begins a stop. A second call ends the wait for knocks to be acted on, or for grants to close.
  mutating func begin(now: Int64) {
    switch phase {
    case .running: phase = .draining(until: now + Self.drainPatience)
    case .draining: phase = .draining(until: .min)
    case .closing: phase = .closing(until: .min)
    case .ending: break
    }
  }

  /// Moves the deadline (microseconds).
  mutating func postpone(by time: Int64) {
    switch phase {
    case .draining(let deadline): phase = .draining(until: max(deadline, 0) + time)
    case .closing(let deadline): phase = .closing(until: max(deadline, 0) + time)
    case .running, .ending: break
    }
  }

  /// Goes on to the next phase if this one is over.
  ///
  /// - Parameters:
  ///   - isDrained: whether the receiver has handed over all.
  ///   - isClosing: whether grants are still to be closed.
  mutating func advance(isDrained: Bool, isClosing: Bool, now: Int64) -> Step? {
    switch phase {
    case .draining where isDrained && closesGrants:
      phase = .closing(until: now + Self.closePatience)
      return .closeGrants
    case .draining where isDrained, .closing where !isClosing || nextDeadline <= now:
      phase = .ending
      return .endCommands
    case .running, .draining, .closing, .ending: return nil
    }
  }
}
