import CSystem

/// The signals that the server takes, read from a descriptor, so that none interrupts the program.
///
/// While a value exists TERM, INT, USR1 and CHLD wait to be read here. They arrive even as process
/// 1 of a container. Source: signalfd(2).
@safe struct Signals: ~Copyable {
  private let descriptor: Descriptor
  /// The mask that the process had before, for its children.
  private(set) var oldMask = sigset_t()

  enum Event {
    case stop(number: Int32)
    case printCounters, childEnded
  }

  init() throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(unsafe csys_open_signals(&oldMask)))
  }

  /// For poll(2).
  var number: Int32 { descriptor.number }

  /// The next signal, or nil where none is waiting.
  func next() throws(SystemError) -> Event? {
    switch try SystemError.check(csys_next_signal(number)) {
    case 0: nil
    case SIGUSR1: .printCounters
    case SIGCHLD: .childEnded
    case let number: .stop(number: number)
    }
  }
}
