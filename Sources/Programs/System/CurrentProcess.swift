import CSystem
import KnockBase

/// This process.
enum CurrentProcess {
  /// Makes the process independent of how its parent started it: see `csys_start_process`.
  static func start(_ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) {
    unsafe csys_start_process(arguments)
  }

  /// Keeps the descriptors from 3 on from all programs that are started.
  static func keepDescriptors() { csys_keep_descriptors() }

  /// Becomes the program `words[0]`, which is looked up in PATH.
  ///
  /// - Throws: why it cannot be run. The process is then as before.
  static func become(_ words: ArgumentList) throws(SystemError) {
    try SystemError.check(unsafe csys_become(words.pointers))
  }

  /// The process ID.
  static var number: Int32 { csys_process_id() }

  /// A number for this boot of the machine and this network namespace. 0 if the kernel does not tell.
  static var place: UInt64 {
    let (boot, network) = (Boot.identity(), csys_network())
    guard boot != 0, network != 0 else { return 0 }
    var sum = Checksum()
    sum.add(boot)
    sum.add(network)
    return sum.value
  }

  /// Replaces standard input by /dev/null, and standard output too if it was closed.
  static func detachStandardStreams() throws(SystemError) {
    try SystemError.check(csys_detach_standard_streams())
  }

  /// Names the process for ps(1) and top(1), which show the first 15 bytes.
  static func setName(_ name: Literal) { unsafe csys_name_process(name.cString) }

  /// Writes a name over the arguments, for the programs that show those. From then on nobody can use the arguments.
  static func replaceArguments(by name: Literal) {
    unsafe csys_replace_arguments(name.cString)
  }

  /// Ends the process. What its values hold is left to the kernel, since freeing it may be forbidden.
  static func end(status: Int32) { csys_end_process(status) }
}
