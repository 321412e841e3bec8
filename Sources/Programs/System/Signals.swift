import CSystem

/// The signals that the program handles. They are read from a descriptor, so they never interrupt it.
///
/// From the first value on, TERM, INT, HUP, USR1 and CHLD wait to be read here, even in process 1 of a container.
/// If HUP is ignored, as under nohup(1), it stays ignored. Source: signalfd(2).
@safe struct Signals: ~Copyable {
  private let descriptor: Descriptor
  /// The signals that were blocked before. Children start with this mask.
  private(set) var oldMask = sigset_t()

  enum Event {
    case stop(number: Int32)
    case printCounters, childEnded
  }

  /// The name of a signal that stops the program.
  static func name(of number: Int32) -> StaticString {
    switch number {
    case CSYS_SIGTERM: "SIGTERM"
    case CSYS_SIGINT: "SIGINT"
    default: "SIGHUP"
    }
  }

  init() throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(unsafe csys_open_signals(&oldMask)))
  }

  /// The descriptor to wait for.
  var number: Int32 { descriptor.number }

  /// The next signal; nil if none is waiting.
  func next() throws(SystemError) -> Event? {
    switch try SystemError.check(csys_next_signal(number)) {
    case 0: nil
    case CSYS_SIGUSR1: .printCounters
    case CSYS_SIGCHLD: .childEnded
    case let number: .stop(number: number)
    }
  }
}
