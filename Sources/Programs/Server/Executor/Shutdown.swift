import KnockBase

/// The phases that a stop of the server goes through.
struct Shutdown {
  /// How long all grants together may take to close.
  private static let closePatience = 60 * Microseconds.second

  private enum Phase {
    /// No stop.
    case running
    /// The receiver hands over what it has accepted, and that is acted on as before.
    case draining
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

  /// When `advance` has something to do at the latest, in monotonic microseconds.
  var nextDeadline: Int64 {
    if case .closing(let deadline) = phase { deadline } else { .max }
  }

  /// Begins a stop. A second call ends the wait for grants to close.
  mutating func begin() {
    switch phase {
    case .running: phase = .draining
    case .closing: phase = .closing(until: .min)
    case .draining, .ending: break
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
