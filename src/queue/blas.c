#include "queue/blas.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Libraries by a part of their file's name; wheels carry copies with names of their own. */
static const char *const libraries[] = { "openblas", "libmkl_rt", "libblis",
                                         "libgomp",  "libomp",    "libiomp" };

/* What sets the number of threads, by value, and what tells it. Spellings with "scipy" and "64_"
 * are those of the wheels of NumPy and SciPy. */
static const struct {
    const char *set, *get;
} interfaces[] = {
    { "openblas_set_num_threads", "openblas_get_num_threads" },
    { "openblas_set_num_threads64_", "openblas_get_num_threads64_" },
    { "scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads" },
    { "scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_" },
    { "MKL_Set_Num_Threads", "MKL_Get_Max_Threads" },
    { "bli_thread_set_num_threads", "bli_thread_get_num_threads" },
    { "omp_set_num_threads", "omp_get_max_threads" },
};

struct search {
    int threads, told;
};

/* OpenBLAS has no threads in a forked child until it is used, but its setter would start them: so
 * the number is put where the setter puts it. False: this one is built otherwise. */
static bool limit_asleep(void *handle, int threads) {
    int *running = dlsym(handle, "blas_server_avail"), *number = dlsym(handle, "blas_cpu_number");
    if (!running || !number || *running)
        return false;
    if (*number > threads)
        *number = threads;
    return true;
}

/* Lowers the number of threads of one library; never raises it. */
static bool limit(void *handle, int threads) {
    for (size_t i = 0; i < sizeof interfaces / sizeof *interfaces; i++) {
        void (*set)(int);
        int (*get)(void);
        *(void **)&set = dlsym(handle, interfaces[i].set);
        *(void **)&get = dlsym(handle, interfaces[i].get);
        if (!set || !get)
            continue;
        if (!limit_asleep(handle, threads) && get() > threads)
            set(threads);
        return true;
    }
    return false;
}

static int look(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    struct search *search = arg;
    const char *slash = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;
    for (size_t i = 0; slash && i < sizeof libraries / sizeof *libraries; i++) {
        if (!strstr(slash, libraries[i]))
            continue;
        void *handle = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
        if (handle) {
            search->told += limit(handle, search->threads);
            dlclose(handle);
        }
        return 0;
    }
    return 0;
}

int wf_blas_limit(int threads) {
    struct search search = { .threads = threads };
    dl_iterate_phdr(look, &search);
    return search.told;
}
