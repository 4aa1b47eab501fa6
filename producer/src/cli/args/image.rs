//! The arguments of `image`.

use clap::Subcommand;
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::units::ByteSize;

/// `image`
#[derive(Debug, Clone, Subcommand)]
pub enum ImageCommand {
    /// Build an image, or find it built. Minutes, for the first time.
    ///
    /// The same packages, recipe and agent give the same digest, wherever it is built. Folders with recipes are looked
    /// for in EVALFLEET_RECIPES, then in vm-images beside this program.
    #[command(
        after_help = "Examples:\n  evalfleet image build base\n  evalfleet image build rust --force --json | jq -r .digest\n  \
        EVALFLEET_RECIPES=~/recipes evalfleet image build mine"
    )]
    Build {
        /// Which: base, eval, rust, or the folder of a recipe of your own.
        #[arg(default_value = "base")]
        name: String,
        /// Build everything anew: Debian's packages may be newer.
        #[arg(long)]
        force: bool,
    },
    /// Import a qcow2 or raw disk of your own: a cloud image with sshd and cloud-init, or with the QEMU guest
    /// agent. Boots it once to find which.
    #[command(after_help = "Examples:\n  evalfleet image import ubuntu-22.04-minimal.qcow2\n  \
        evalfleet image import gemini-eval-env.qcow2 --name evaluation --channel ssh --user ubuntu\n  \
        evalfleet run --image evaluation -- uname -a")]
    Import {
        /// The file. One that stands on another file is refused.
        file: std::path::PathBuf,
        /// The image's name; made from the file's when missing.
        #[arg(long)]
        name: Option<String>,
        /// What its inside is reached by.
        #[arg(long, default_value = "auto")]
        channel: Channel,
        /// Who enters over ssh; others than root need sudo without a password there, which cloud-init gives them.
        #[arg(long, default_value = "root")]
        user: String,
        /// Only import: the first job finds out how it is reached.
        #[arg(long)]
        no_boot: bool,
    },
    /// Open a shell in a throw-away VM of an imported image, or run a command there.
    #[command(
        after_help = "Examples:\n  evalfleet image ssh evaluation\n  evalfleet image ssh evaluation -- journalctl -b"
    )]
    Ssh {
        /// Which: NAME or NAME@DIGEST.
        name: ImageRef,
        /// The command; a shell when missing.
        #[arg(last = true)]
        argv: Vec<String>,
    },
    /// Show the images that are here: size, age, scenarios, and the templates that were made of each.
    ///
    /// A star marks the one that the bare name means.
    #[command(
        after_help = "Examples:\n  evalfleet image list\n  evalfleet image list --json | jq .templates"
    )]
    List,
    /// Read one image whole, compare it with its digests, and show it with its templates.
    #[command(
        after_help = "Examples:\n  evalfleet image show base\n  evalfleet image show base@3f2a91 | jq .scenarios\n  \
        evalfleet image show rust --packages | grep '^rustc '\n  \
        diff <(evalfleet image show base --packages) <(evalfleet image show base@3f2a91 --packages)"
    )]
    Show {
        /// Which: NAME or NAME@DIGEST.
        #[arg(default_value = "base")]
        name: String,
        /// Its Debian packages with their versions instead, one a line.
        #[arg(long)]
        packages: bool,
    },
    /// Remove templates: failed ones, those of images that are gone, and the least recently used beyond a size;
    /// then the images that a newer one of their name has replaced and of which no template is left.
    ///
    /// Never a template that a worker has open or that is being made, nor the image that client.image pins. What is
    /// removed is made again when a job wants it, but an old image only if its packages are still what they were.
    #[command(
        after_help = "Examples:\n  evalfleet image gc --dry-run\n  evalfleet image gc --max 2G\n  evalfleet image gc --max 0"
    )]
    Gc {
        /// What the rest may take on the disk; qemu.templates_max when missing.
        #[arg(long)]
        max: Option<ByteSize>,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What an imported image is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Channel {
    /// Whichever answers first.
    Auto,
    /// An sshd.
    Ssh,
    /// The QEMU guest agent.
    Qga,
}
