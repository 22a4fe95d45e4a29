# Sourced, not run: `build ARGUMENTS…` is `docker build` with BuildKit, whichever way this machine has it.
#
# Docker since 23 wants the buildx plug-in for BuildKit; Debian's Docker 20.10 has it built in.
build() {
    if docker buildx version >/dev/null 2>&1; then
        docker buildx build --load --quiet "$@" >/dev/null
    else
        DOCKER_BUILDKIT=1 "$(builder)" build --quiet "$@" >/dev/null
    fi
}

builder() {
    for program in docker /usr/bin/docker; do
        DOCKER_BUILDKIT=1 "$program" build --help 2>&1 | grep -q 'BuildKit is enabled but' && continue
        echo "$program"
        return
    done
    echo "build.sh: expected a docker client with BuildKit (the buildx plug-in, or Debian's docker.io), found none" >&2
    return 1
}
