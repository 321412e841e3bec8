import CSystem
import KnockBase

/// What is typed at a terminal.
enum Terminal {
  /// If the descriptor is a terminal, asks for input there, and does not show it.
  static func hideInput(_ descriptor: Int32, prompt: Literal) {
    unsafe csys_hide_input(descriptor, prompt.cString)
  }

  static func showInput() { csys_show_input() }
}
