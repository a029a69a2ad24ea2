/* Threads of numerical libraries that are already loaded. */
#pragma once

/* Tells each BLAS and OpenMP library in this process to use at most `threads` threads. Returns how
 * many libraries were told. Starts no thread and loads nothing. */
int wf_blas_limit(int threads);
