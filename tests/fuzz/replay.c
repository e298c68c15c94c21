/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over the files of its corpus, without a fuzzer: what was once found stays found, in every
 * `make check`. Speaks TAP; an input that breaks the target kills the program, which its runner counts.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

/* The exact size on the heap, so that a read past the end is one past the allocation. */
static int replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	size_t size = 0;
	int ret = -1;

	if (!f)
		return -1;
	if (fseek(f, 0, SEEK_END) == 0) {
		long end = ftell(f);

		rewind(f);
		size = end > 0 ? (size_t)end : 0;
		data = malloc(size ? size : 1);
		if (end >= 0 && data && fread(data, 1, size, f) == size) {
			LLVMFuzzerTestOneInput(data, size);
			ret = 0;
		}
	}
	free(data);
	fclose(f);
	return ret;
}

int main(int argc, char **argv)
{
	char path[4096];
	struct dirent *entry;
	unsigned int count = 0;
	DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;

	if (!dir) {
		printf("not ok 1 - the corpus %s cannot be opened\n1..1\n", argc > 1 ? argv[1] : "(none given)");
		return 1;
	}
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		fprintf(stderr, "# %s\n", path);
		if (replay_file(path) < 0) {
			printf("not ok 1 - %s cannot be read\n1..1\n", path);
			closedir(dir);
			return 1;
		}
		count++;
	}
	closedir(dir);
	printf("%sok 1 - %s: %u inputs\n1..1\n", count ? "" : "not ", argv[1], count);
	return count ? 0 : 1;
}
