import KnockBase

/// The version of the program. No other file has it.
var version: Literal { "1.2.0" }
