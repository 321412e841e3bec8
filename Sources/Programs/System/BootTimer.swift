import CSystem

/// A timer by `SystemClock.sinceBoot`, to wait for with others. poll(2) alone would wait longer by the time that the
/// machine sleeps. Source: timerfd_create(2).
struct BootTimer: ~Copyable {
  private let descriptor: Descriptor
  private var moment = Int64.max

  init() throws(SystemError) {
    descriptor = Descriptor(owning: try SystemError.check(csys_boot_timer()))
  }

  /// The descriptor to wait for. It is ready to be read from the moment on.
  var number: Int32 { descriptor.number }

  /// - Parameter moment: in microseconds since boot; `.max` for never.
  mutating func set(_ moment: Int64) {
    guard moment != self.moment else { return }
    self.moment = moment
    csys_set_boot_timer(number, moment)
  }
}
