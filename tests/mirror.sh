# To be sourced: the Debian mirror that this host itself uses, if it is Debian, for what is made out of packages.

mirror() {
    [ "$(. /etc/os-release && echo "${ID:-}")" = debian ] || return 0
    grep -rhsoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d | head -1 | tr -d ' ' || true
}
