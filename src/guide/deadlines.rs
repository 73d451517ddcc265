//! Timeouts and deadlines of reads and writes.
//!
//! A timeout bounds each call, from its beginning; a deadline is an instant after which all calls of a
//! direction time out. The earlier counts. Both can be changed while a call waits, which then goes by
//! the new ones, and a deadline in the past wins over data that is ready. A thread that waits for
//! another to finish its read goes by its own limits all the same.
