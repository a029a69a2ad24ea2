#include "queue/blas.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

/* Libraries by a part of their file's name; wheels carry copies with names of their own. */
static const char *const libraries[] = { "openblas", "libmkl_rt", "libblis",
                                         "libgomp",  "libomp",    "libiomp" };

/* All take an int by value. The last two spellings are those of the wheels of NumPy and SciPy. */
static const char *const setters[] = {
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
    "omp_set_num_threads",
};

struct search {
    int threads, told;
};

static int look(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    struct search *search = arg;
    const char *slash = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;
    for (size_t i = 0; slash && i < sizeof libraries / sizeof *libraries; i++) {
        if (!strstr(slash, libraries[i]))
            continue;
        void *handle = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
        for (size_t j = 0; handle && j < sizeof setters / sizeof *setters; j++) {
            void (*set)(int);
            *(void **)&set = dlsym(handle, setters[j]);
            if (!set)
                continue;
            set(search->threads);
            search->told++;
            break;
        }
        if (handle)
            dlclose(handle);
        return 0;
    }
    return 0;
}

int wf_blas_limit(int threads) {
    struct search search = { .threads = threads };
    dl_iterate_phdr(look, &search);
    return search.told;
}
