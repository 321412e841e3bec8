import KnockBase

/// A value that stays in memory of its own until the program ends. Its owner holds only the address: the compiler moves
/// a large value part by part, each time that it changes hands.
@safe struct Resident<Value: ~Copyable>: ~Copyable {
  private let place: UnsafeMutablePointer<Value>

  init(_ value: consuming Value) {
    let memory = unsafe residentMemory(MemoryLayout<Value>.size)
    unsafe place = unsafe memory.bindMemory(to: Value.self, capacity: 1)
    unsafe place.initialize(to: value)
  }

  var value: Value {
    unsafeAddress { unsafe UnsafePointer(place) }
    unsafeMutableAddress { unsafe place }
  }
}

/// Ends the program if out of memory.
@inline(never)
private func residentMemory(_ size: Int) -> UnsafeMutableRawPointer {
  guard let start = unsafe Storage<UInt8>.mapped(size)?.baseAddress else {
    CurrentProcess.exitFatally(.outOfMemory)
  }
  return UnsafeMutableRawPointer(start)
}
