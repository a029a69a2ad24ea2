/* One line per event, "2026-11-21T03:12:45.123 daemon[123] info: text" (UTC), to a descriptor (the
 * daemon's log file). */
#pragma once

enum wf_log_level { WF_LOG_ERROR, WF_LOG_WARN, WF_LOG_INFO, WF_LOG_DEBUG };

void wf_log_open(int fd, const char *role, enum wf_log_level level); /* fd -1: drop everything */
void wf_log(enum wf_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
