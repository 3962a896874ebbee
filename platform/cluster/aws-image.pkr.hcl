# An image for fast starts: Amazon's, with the pinned packages in it. A node then takes the wheel alone.
#   make cluster && packer init platform/cluster/aws-image.pkr.hcl && packer build platform/cluster/aws-image.pkr.hcl
# Its id goes into cluster.yaml as ImageId. To be made again when constraints/gpu.txt changes; a node from an older one
# installs what differs.
packer {
  required_plugins {
    amazon = { source = "github.com/hashicorp/amazon", version = ">= 1.3" }
  }
}

variable "region" { default = "us-east-1" }

data "amazon-parameterstore" "base" {
  region = var.region
  name   = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
}

source "amazon-ebs" "node" {
  region        = var.region
  source_ami    = data.amazon-parameterstore.base.value
  instance_type = "m7i.2xlarge"
  ssh_username  = "ubuntu"
  ami_name      = "ladder-{{timestamp}}"
}

build {
  sources = ["source.amazon-ebs.node"]
  # Without the secrets, which are not in this folder.
  provisioner "file" {
    source      = "build/cluster"
    destination = "/home/ubuntu/ladder"
  }
  provisioner "shell" {
    inline = ["bash ~/ladder/setup.sh aws"]
  }
}
