import CSystem
import KnockBase

/// A signal, by its number. Source: signal(7).
struct Signal: Equatable {
  let number: Int32

  static var hangUp: Signal { Signal(number: CSYS_SIGHUP) }
  static var interrupt: Signal { Signal(number: CSYS_SIGINT) }
  static var quit: Signal { Signal(number: CSYS_SIGQUIT) }
  static var kill: Signal { Signal(number: CSYS_SIGKILL) }
  static var terminate: Signal { Signal(number: CSYS_SIGTERM) }

  /// The name of a signal that stops the program.
  var name: Literal {
    self == .terminate ? "SIGTERM" : self == .interrupt ? "SIGINT" : "SIGHUP"
  }

  /// Ends this process by the signal, without a core dump.
  func die() { csys_die(number) }
}

/// Signals that would end this process wait until they are released, or the process ends by one.
struct HeldSignals: ~Copyable {
  private let descriptor: Descriptor

  init() throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(csys_hold_signals()))
  }

  /// The descriptor to wait for. It can be read once a signal has come.
  var number: Int32 { descriptor.number }

  /// From here on signals act again. One that has come ends the process.
  func release() { csys_release_signals() }
}

/// The signals that the program handles. They are read from a descriptor, so they never interrupt it.
///
/// From the first value on, TERM, INT, HUP, USR1 and CHLD wait to be read here, even in process 1 of a container.
/// If HUP is ignored, as under nohup(1), it stays ignored. Source: signalfd(2).
struct Signals: ~Copyable {
  private let descriptor: Descriptor

  enum Event {
    case stop(Signal)
    case printCounters, childEnded
  }

  /// To be called once.
  init() throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(csys_open_signals()))
  }

  /// The descriptor to wait for.
  var number: Int32 { descriptor.number }

  /// The next signal; nil if none is waiting.
  func next() throws(SystemError) -> Event? {
    switch try SystemError.check(csys_next_signal(number)) {
    case 0: nil
    case CSYS_SIGUSR1: .printCounters
    case CSYS_SIGCHLD: .childEnded
    case let number: .stop(Signal(number: number))
    }
  }
}
