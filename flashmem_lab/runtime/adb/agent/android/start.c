/* The first code of a bionic program, for a link without the NDK's crtbegin: hands the stack over
 * to libc, which starts main. */
struct structors {
  void *none[8]; /* no constructors or destructors of our own, in C */
};

extern void __libc_init(void *stack, void (*on_exit)(void), int (*main)(int, char **, char **),
                        const struct structors *structors) __attribute__((noreturn));
int main(int count, char **words);

static const struct structors structors;

__attribute__((used, noreturn)) void start_main(void *stack) {
  __libc_init(stack, 0, (int (*)(int, char **, char **))main, &structors);
}

#if defined(__aarch64__)
__asm__(
    ".text\n.globl _start\n.type _start,%function\n"
    "_start:\n mov x29,#0\n mov x30,#0\n mov x0,sp\n b start_main\n");
#elif defined(__x86_64__)
__asm__(
    ".text\n.globl _start\n.type _start,@function\n"
    "_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call start_main\n");
#endif
